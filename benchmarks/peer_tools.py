"""The peers as their users run them: a file of captions in, kept rows out, in CPU-seconds per row without start-up.

Data-Juicer runs a recipe with `dj-process`, datatrove a pipeline in its `LocalPipelineExecutor`; both with one
process on one file. Each runs on two sizes, and the slope between them is its speed: imports and start-up fall out.
Ours reads the same file and gives one bit per row and rule.
"""

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from filters.base import Filter
from filters.verdicts import alike

SIZES = (20_000, 100_000)
OPERATORS = {
    "text_length": "text_length_filter",
    "alphanumeric": "alphanumeric_filter",
    "special_characters": "special_characters_filter",
    "words_num": "words_num_filter",
    "average_line_length": "average_line_length_filter",
    "maximum_line_length": "maximum_line_length_filter",
}


def slope(run: Callable[[int], int]) -> dict[str, float]:
    """Return CPU-seconds per row between two sizes, and what was kept of the larger; `run` returns rows kept."""
    seconds, kept = [], 0
    for size in SIZES:
        before = _cpu()
        kept = run(size)
        seconds.append(_cpu() - before)
    return {"seconds_per_row": (seconds[1] - seconds[0]) / (SIZES[1] - SIZES[0]), "kept": kept}


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def write(text: pa.Array, folder: Path) -> None:
    """Write one folder per size, each with one file of captions."""
    for size in SIZES:
        (folder / str(size)).mkdir()
        rows = text.take(pa.array(np.resize(np.arange(len(text)), size)))
        table = pa.table({"text": rows, "id": pa.array([str(number) for number in range(size)])})
        pq.write_table(table, folder / str(size) / "captions.parquet")


def data_juicer(settings: dict[str, Any], python: str, folder: Path) -> dict[str, float]:
    """Return the speed of `dj-process` with a recipe of the rules in `OPERATORS`."""
    extra = {"alphanumeric": {"tokenization": False}, "words_num": {"tokenization": False}}
    process = [{name: {**settings[rule], **extra.get(rule, {})}} for rule, name in OPERATORS.items()]

    def run(size: int) -> int:
        out = folder / f"out-{size}"
        recipe = {
            "project_name": "captions", "dataset_path": str(folder / str(size) / "captions.parquet"), "np": 1,
            "export_path": str(out / "kept.jsonl"), "work_dir": str(out), "use_cache": False, "open_tracer": False,
            "process": process,
        }  # fmt: skip
        path = folder / f"recipe-{size}.yaml"
        path.write_text(json.dumps(recipe))  # JSON is YAML
        _quietly([str(Path(python).with_name("dj-process")), "--config", str(path)], folder)
        return len((out / "kept.jsonl").read_bytes().splitlines())

    return slope(run)


def datatrove(settings: dict[str, Any], python: str, folder: Path) -> dict[str, float]:
    """Return the speed of a pipeline of a parquet reader, the rules, and no writer."""
    (folder / "settings.json").write_text(json.dumps(settings))
    script = Path(__file__).with_name("peer_filters.py")

    def run(size: int) -> int:
        out = folder / f"pipeline-{size}.json"
        _quietly(
            [python, str(script), "--pipeline", *map(str, (folder / str(size), folder / "settings.json", out))],
            folder,
        )
        return int(json.loads(out.read_text())["kept"])

    return slope(run)


def _quietly(command: Sequence[str], folder: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HOME": str(folder)}
    found = subprocess.run(command, env={**os.environ, **offline}, cwd=folder, capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(f"{command[0]} ended with {found.returncode}: {found.stderr[-2000:]}")


def ours(rules: Sequence[Filter], folder: Path) -> dict[str, float]:
    """Return our speed on the same files."""

    def run(size: int) -> int:
        text = pq.read_table(folder / str(size) / "captions.parquet", columns=["text"])["text"].combine_chunks()
        kept = 0
        for _, batch in alike({"caption": text}, len(text)):
            kept += int(np.logical_and.reduce([rule.keep(batch) for rule in rules]).sum())
        return kept

    run(SIZES[0])
    return slope(run)
