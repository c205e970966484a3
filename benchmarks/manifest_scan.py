"""A manifest of many million rows through the filter stage itself: seconds, and how far memory grows.

Signals lie in a store as the score stage leaves them, one narrow file per signal and part. Captions are real ones,
repeated, with their own languages and frequencies; what a picture would have been measured is drawn. Both policies
judge them as `internvl` has them judged, with masks written, cubes added up and the report made. The stage runs in
a process of its own, so that what wrote the store has left nothing behind in its memory.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import surroundings
from filters.policies import Policy, caption_quality, clean
from filters.text import Captions
from filters.text.language import names as languages_of
from infra.cluster import InlineCluster
from infra.storage import Store
from stages.manifest import Ledger
from stages.materialize import StageSpec, materialize
from stages.output import Output
from stages.ref import Ref
from stages.signals.column_files import column_bytes, numbers

ROWS_PER_PART = 1 << 16
GOALS = {"seconds": 30.0, "grown_megabytes": 400.0}
SOURCE, VERSION = "laion_en", "scan"
POLICIES = {"clean": clean(), "caption_quality": caption_quality(SOURCE)}
SAMPLED_EVERY_SECONDS = 0.01


def drawn(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Return signals that pictures give, with the shapes that they have in real sources: most rows far from a cut."""
    return {
        "clip_similarity": rng.normal(0.3, 0.04, rows),
        "watermark": rng.beta(1.2, 9, rows),
        "unsafe": rng.beta(1, 30, rows),
        "aesthetic": rng.normal(5, 1, rows),
        "min_side": np.round(rng.lognormal(np.log(400), 0.7, rows)),
        "aspect": 1 + rng.exponential(0.6, rows),
        "image_bytes": np.round(rng.lognormal(np.log(40_000), 1.2, rows)),
        "duplicates": 1.0 * rng.geometric(0.9, rows),
        "eval_similarity": rng.normal(0.6, 0.08, rows),
        "soft_404": 1.0 * rng.geometric(0.9, rows),
    }


def _ref(name: str) -> Ref:
    return Ref(name=f"{name}/{SOURCE}", version=VERSION)


def write(store: Store, captions_path: Path, rows: int, rows_per_part: int = ROWS_PER_PART) -> None:
    """Publish `signals` and `pool` of so many rows."""
    captions = pq.read_table(captions_path, columns=["caption"])["caption"].combine_chunks()
    languages = languages_of(Captions(captions)).cast(pa.string())
    codes = captions.dictionary_encode().indices.to_numpy()
    frequency = np.bincount(codes)[codes].astype(np.float32)
    signals, pool = (
        Output(store, _ref(name), stage, {}) for name, stage in (("signals", "score"), ("pool", "download"))
    )
    rng = np.random.default_rng(0)
    scored, fetched = [], []
    for number, first in enumerate(range(0, rows, rows_per_part)):
        size = min(rows_per_part, rows - first)
        some = rng.integers(len(captions), size=size)
        uids = _uids(rng, size)
        columns = {
            "caption": captions.take(pa.array(some)),
            "language": languages.take(pa.array(some)),
            "caption_frequency": numbers(frequency[some]),
            **{name: numbers(values) for name, values in drawn(rng, size).items()},
        }
        key, ledger = f"{number:06d}", Ledger(listed=size, kept=size)
        files = {name: (f"{name}/{key}.parquet", column_bytes(uids, column)) for name, column in columns.items()}
        scored.append(signals.part(key, key, ledger, files))
        fetched.append(pool.part(key, key, ledger, {}))
    signals.commit(scored)
    pool.commit(fetched, totals={"outcomes": {"fetched": rows}})


def _uids(rng: np.random.Generator, size: int) -> pa.Array:
    """Return uids in order, as parts hold them."""
    words = np.sort(rng.integers(0, 1 << 63, size, dtype=np.uint64).astype(">u8"))
    tails = rng.integers(0, 1 << 63, size, dtype=np.uint64)
    whole = np.stack([words.view("<u8"), tails], axis=1)
    return pa.Array.from_buffers(pa.binary(16), size, [None, pa.py_buffer(whole.tobytes())])


def judge(store: Store, policy: Policy) -> dict[str, Any]:
    """Run the filter stage in this process; return its CPU-seconds and the most that memory grew meanwhile."""
    inputs = [_ref("signals"), _ref("pool"), *([_ref("verdicts/clean")] if policy.name != "clean" else [])]
    spec = StageSpec(
        stage="filter",
        artifact=_ref(f"verdicts/{policy.name}"),
        parameters={"source": SOURCE, "policy": policy.model_dump(mode="json")},
        inputs=tuple(inputs),
    )
    found, seconds, wall, grown = watched(lambda: materialize(spec, store, InlineCluster(), progress=False))
    return {
        "rows": found.ledger.listed,
        "kept": found.ledger.kept,
        "parts": len(found.parts),
        "cpu_seconds": seconds,
        "wall_seconds": wall,
        "grown_megabytes": grown,
    }


def watched(work: Callable[[], Any]) -> tuple[Any, float, float, float]:
    """Return what work returns, its CPU-seconds and seconds, and by how many megabytes memory grew at most."""
    before = peak = _resident_megabytes()
    over = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not over.wait(SAMPLED_EVERY_SECONDS):
            peak = max(peak, _resident_megabytes())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    over.set()
    sampler.join()
    return found, cpu, wall, peak - before


def _resident_megabytes() -> float:
    """Return the memory that this process holds now, not the most it ever held."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


def measure(captions_path: Path, rows: int) -> dict[str, Any]:
    """Return the speed and growth of each policy, and of both after another."""
    with tempfile.TemporaryDirectory() as folder:
        write(Store(folder), captions_path, rows)
        found = {}
        for name in POLICIES:
            command = [sys.executable, "-m", "benchmarks.manifest_scan", folder, name]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[name] = json.loads(ran.stdout)
    return {**surroundings(("pyarrow", "numpy")), "goals": GOALS, **found}


if __name__ == "__main__":
    print(json.dumps(judge(Store(sys.argv[1]), POLICIES[sys.argv[2]])))
