"""Our policies on real captions, and the peers' rules beside Data-Juicer and datatrove, in CPU-seconds of one core.

    python -m benchmarks filters
    python -m benchmarks.filters --captions captions.parquet --rows 10000000

Peers run in an environment of their own (benchmarks/requirements-peers.txt; PEERS_PYTHON names its Python), once as
bare operators without their engines, once from file to rows as their users run them (peer_tools). They and we are
given the same captions, in normal form already. A rule counts only where both keep the same rows, every one of
them.
"""

import argparse
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import manifest_scan
from benchmarks.peers import peers
from benchmarks.timing import cpu_seconds, publish, surroundings
from filters.policies import caption_quality, clean
from filters.text import Captions
from filters.verdicts import give

RESULTS = Path(__file__).parent / "results" / "filters.json"
CAPTIONS = Path(os.environ.get("BENCHMARK_CAPTIONS", "../shared/data/web-alt-text.parquet"))
PEERS_PYTHON = os.environ.get("PEERS_PYTHON", ".venv-peers/bin/python")
ROWS, NUMBERS, SCAN_ROWS = 1_000_000, 4_000_000, 10_000_000
GOALS = {"captions": 0.5e6, "numbers": 15e6, "data_juicer": 100.0, "datatrove": 50.0}


def real_captions(path: Path, rows: int) -> pa.Array:
    """Return captions of a file in a fixed random order, so that languages mix, repeated up to `rows`."""
    column = pq.read_table(path, columns=["caption"])["caption"].combine_chunks()
    order = np.random.default_rng(0).permutation(len(column))
    return column.take(pa.array(np.resize(order, rows)))


def caption_policy(captions: pa.Array) -> dict[str, float]:
    """Return the speed of the whole strict policy, with the growth of memory while it runs."""
    rules = caption_quality("laion_en").filters
    columns = {"caption": captions, "caption_frequency": np.ones(len(captions), dtype=np.float32)}
    give(rules, {name: column[:1000] for name, column in columns.items()}, 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = cpu_seconds(
        lambda: give(rules, columns, len(captions), measured=False), 1 if len(captions) > 2e6 else 3
    )
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"cpu_seconds": seconds, "rows_per_core_second": len(captions) / seconds, "grown_megabytes": grown}


def numeric_policy(rows: int) -> dict[str, float]:
    """Return the speed of the numeric rules of the light policy, reading parquet included."""
    rules = [each for each in clean().filters if "caption" not in each.reads]
    names = [name for each in rules for name in each.reads]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "signals.parquet"
        table = pa.table({name: rng.random(rows, dtype=np.float32) for name in names})
        pq.write_table(table, path, compression="zstd", use_dictionary=False)

        def work() -> None:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=1 << 20, columns=names, use_threads=False):
                columns = {name: batch.column(name).to_numpy() for name in names}
                give(rules, columns, len(batch), measured=False)

        seconds = cpu_seconds(work)
    return {"cpu_seconds": seconds, "rows_per_core_second": rows / seconds, "rules": len(rules)}


def measure(captions_path: Path, rows: int, python: str, scan_rows: int) -> dict[str, Any]:
    """Return the whole table."""
    captions = real_captions(captions_path, rows)
    result = {
        **surroundings(("pyarrow", "numpy")),
        "rows": rows,
        "characters_per_caption": float(np.mean(Captions(captions.slice(0, 100_000)).length)),
        "goals": GOALS,
        "captions": caption_policy(captions),
        "numbers": numeric_policy(NUMBERS),
    }
    result["manifest_scan"] = manifest_scan.measure(captions_path, scan_rows)
    if Path(python).exists():
        result["peers"] = peers(captions.slice(0, ROWS), python)
    else:
        result["peers_left_out"] = f"{python} is not there; benchmarks/requirements-peers.txt says how to make it"
    return result


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    lines = [f"{result['rows']:,} captions of {result['characters_per_caption']:.0f} characters; one core"]
    for name in ("captions", "numbers"):
        speed = result[name]["rows_per_core_second"] / 1e6
        lines.append(f"{name + ' policy':22} {speed:8.3f} M rows/s   goal {GOALS[name] / 1e6:g}")
    goals = result["manifest_scan"]["goals"]
    for name in manifest_scan.POLICIES:
        scan = result["manifest_scan"][name]
        spent = f"{scan['cpu_seconds']:8.1f} CPU-seconds   goal {goals['seconds']:g}"
        grown = f"{scan['grown_megabytes']:.0f} MB more memory   goal {goals['grown_megabytes']:g}"
        lines.append(f"{scan['rows']:,} rows through stage filter, {name}: {spent}; {grown}")
    for peer, found in result.get("peers", {}).items():
        if found["times_faster"] is None:
            lines.append(f"{peer}: no rule keeps the same rows")
            continue
        ours, their = found["our_rows_per_core_second"] / 1e6, found["their_rows_per_core_second"] / 1e6
        speeds = f"{found['times_faster']:8.1f} times   goal {GOALS[peer]:g}; {ours:.2f} against {their:.4f} M rows/s"
        lines.append(f"{peer + ' ' + found['version']:22} {speeds} on {', '.join(found['equal_rules'])}")
        if fewer := found.get("without_their_slowest"):
            lines.append(f"{'  without ' + fewer['rule']:22} {fewer['times_faster']:8.1f} times")
        run = found["as_run"]
        ours, their = run["our_rows_per_core_second"] / 1e6, run["their_rows_per_core_second"] / 1e6
        speeds = f"{run['times_faster']:8.1f} times   goal {GOALS[peer]:g}; {ours:.2f} against {their:.4f} M rows/s"
        lines.append(f"{'  from file to rows':22} {speeds}{'' if run['same_rows_kept'] else '; not the same rows'}")
    return "\n".join([*lines, *([result["peers_left_out"]] if "peers_left_out" in result else [])])


def main(captions: Path = CAPTIONS, rows: int = ROWS, path: Path = RESULTS) -> None:
    """Measure, write the JSON, print the table."""
    result = measure(captions, rows, PEERS_PYTHON, SCAN_ROWS)
    publish(result, table(result), path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speed of the filters.")
    parser.add_argument("--captions", type=Path, default=CAPTIONS)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    main(given.captions, given.rows, given.results)
