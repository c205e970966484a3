"""How a trained model lies in the store: one part named `final`, hashed like everything else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.storage import Store
from stages.manifest import Ledger, Manifest, Part
from stages.workspace import Output, copy_file

FINAL = "final"


def publish(
    output: Output,
    input_digest: str,
    files: Mapping[str, tuple[str, bytes | Path]],
    samples: int,
    facts: Mapping[str, Any] | None = None,
) -> Part:
    """Publish a model's files as the part `final`; the ledger counts the samples it was trained on."""
    return output.part(FINAL, input_digest, Ledger(listed=samples, kept=samples), files, facts)


def fetch(store: Store, checkpoint: Manifest, folder: Path) -> Path:
    """Copy a checkpoint's files into a folder under their plain names, each hash checked before anything reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, file in checkpoint.parts[0].files.items():
        name = checkpoint.parts[0].facts.get("names", {}).get(role, Path(file.name).name)
        copy_file(store, checkpoint, file, folder / name)
    return folder


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n" for row in rows)
