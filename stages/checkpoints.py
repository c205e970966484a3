"""How a trained model lies in the store: one part named `final`, hashed like everything else."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from infra.storage import Store, sha256_file
from stages.manifest import File, Ledger, Manifest, Part
from stages.output import Data
from stages.workspace import Output, damaged

FINAL = "final"


def publish(
    output: Output,
    input_digest: str,
    files: Mapping[str, tuple[str, Data]],
    samples: int,
    facts: Mapping[str, Any] | None = None,
) -> Part:
    """Publish a model's files as the part `final`; the ledger counts the samples it was trained on."""
    return output.part(FINAL, input_digest, Ledger(listed=samples, kept=samples), files, facts)


def beside(config: BaseModel, source: Path) -> dict[str, bytes]:
    """Return what stands beside weights: their configuration, and the tokenizer of a fetched checkpoint."""
    return {
        "config.json": config.model_dump_json(indent=2).encode(),
        "tokenizer.json": (source / "tokenizer.json").read_bytes(),
    }


def file_named(checkpoint: Manifest, plain: str) -> File | None:
    """Return a checkpoint's file by its plain name; None where it has none."""
    part = checkpoint.parts[0]
    names = part.facts.get("names", {})
    return next((file for role, file in part.files.items() if names.get(role, Path(file.name).name) == plain), None)


def fetch(store: Store, checkpoint: Manifest, folder: Path) -> Path:
    """Copy a checkpoint's files into a folder under their plain names, each hash checked before anything reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, file in checkpoint.parts[0].files.items():
        name = checkpoint.parts[0].facts.get("names", {}).get(role, Path(file.name).name)
        _copy(store, checkpoint, file, folder / name)
    return folder


def _copy(store: Store, manifest: Manifest, file: File, target: Path) -> Path:
    """Copy a published file to a local path, whatever its size, and refuse it where it differs from the manifest.

    Raises:
        ManifestError: The hash differs.
    """
    for _ in range(2):  # damage on the way is not there the second time
        with store.local(manifest.key(file)) as there:
            shutil.copyfile(there, target)
        if sha256_file(target) == file.sha256:
            return target
    target.unlink()
    raise damaged(manifest, file)


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n" for row in rows)
