"""Our policies on real captions, and the peers' rules beside Data-Juicer and datatrove, in CPU-seconds of one core.

    python -m benchmarks filters
    python -m benchmarks.filters --captions captions.parquet --rows 10000000

Peers run in an environment of their own (benchmarks/requirements-peers.txt; PEERS_PYTHON names its Python), once as
bare operators without their engines, once from file to rows as their users run them (peer_tools). They and we are
given the same captions, in normal form already. A rule counts only where both keep the same rows, every one of
them.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import manifest_scan, peer_tools
from benchmarks.peer_rules import (
    C4,
    PHRASES,
    Alphanumeric,
    AverageLineLength,
    FineWeb,
    GopherLines,
    MaximumLineLength,
    Regex,
    SpecialCharacters,
    TextLength,
    WordsNum,
)
from benchmarks.timing import publish, surroundings
from filters.base import Filter
from filters.policies import caption_quality, clean
from filters.text import Captions
from filters.verdicts import give

RESULTS = Path(__file__).parent / "results" / "filters.json"
CAPTIONS = Path(os.environ.get("BENCHMARK_CAPTIONS", "../shared/data/web-alt-text.parquet"))
PEERS_PYTHON = os.environ.get("PEERS_PYTHON", ".venv-peers/bin/python")
ROWS, NUMBERS, PEER_ROWS, ROUNDS = 1_000_000, 4_000_000, 20_000, 3
ALONE_ROWS, SCAN_ROWS = 200_000, 10_000_000
GOALS = {"captions": 0.5e6, "numbers": 15e6, "data_juicer": 100.0, "datatrove": 50.0}
SETTINGS = {
    "text_length": {"min_len": 5, "max_len": 200},
    "alphanumeric": {"min_ratio": 0.75},
    "special_characters": {"max_ratio": 0.25},
    "words_num": {"min_num": 6},
    "average_line_length": {"min_len": 10, "max_len": 150},
    "maximum_line_length": {"min_len": 10, "max_len": 150},
    "regex": PHRASES,
    "fineweb": {"short_line_length": 30},
}


def cpu_seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median CPU-seconds of some rounds; the first, which allocates, is dropped."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return float(np.median(seconds[1:]))


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


def peers(captions: pa.Array, python: str) -> dict[str, Any]:
    """Return for each peer the rules on which both keep the same rows, and both speeds, bare and as users run it."""
    text = Captions(captions).text
    text = text.filter(pc.greater(pc.utf8_length(text), 0))  # datatrove divides by lines, an empty caption has none
    found, ours = bare(text, python)
    for peer, run in (("data_juicer", peer_tools.data_juicer), ("datatrove", peer_tools.datatrove)):
        found[peer]["as_run"] = as_run(run, ours[peer], text, python)
    return found


def bare(text: pa.Array, python: str) -> tuple[dict[str, Any], dict[str, Sequence[Filter]]]:
    """Return what the peers' operators and our rules do on the same captions, and our rules by peer."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("captions.parquet", "settings.json", "results.json")]
        pq.write_table(pa.table({"caption": text.slice(0, PEER_ROWS)}), paths[0])
        paths[1].write_text(json.dumps(SETTINGS))
        script = Path(__file__).with_name("peer_filters.py")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        subprocess.run([python, str(script), *map(str, paths)], check=True, env=environment, cwd=folder)
        theirs = json.loads(paths[2].read_text())
    special, stops = tuple(theirs.pop("special_characters")), tuple(theirs.pop("stops"))
    ours: dict[str, Sequence[Filter]] = {
        "data_juicer": (
            TextLength.model_validate(SETTINGS["text_length"]),
            Alphanumeric.model_validate(SETTINGS["alphanumeric"]),
            SpecialCharacters(characters=special, **SETTINGS["special_characters"]),  # type: ignore[arg-type]
            WordsNum(characters=special, **SETTINGS["words_num"]),  # type: ignore[arg-type]
            AverageLineLength.model_validate(SETTINGS["average_line_length"]),
            MaximumLineLength.model_validate(SETTINGS["maximum_line_length"]),
        ),
        "datatrove": (
            Regex(regex=PHRASES),
            C4(),
            GopherLines(),
            FineWeb(stop_characters=stops, **SETTINGS["fineweb"]),  # type: ignore[arg-type]
        ),
    }
    return {peer: _compared(theirs[peer], rules, text) for peer, rules in ours.items()}, ours


def as_run(
    run: Callable[[dict[str, Any], str, Path], dict[str, float]], rules: Sequence[Filter], text: pa.Array, python: str
) -> dict[str, Any]:
    """Return both speeds from a file of captions to the rows that are kept."""
    with tempfile.TemporaryDirectory() as folder:
        peer_tools.write(text.slice(0, PEER_ROWS), Path(folder))
        their, mine = run(SETTINGS, python, Path(folder)), peer_tools.ours(rules, Path(folder))
    return {
        "same_rows_kept": their["kept"] == mine["kept"],
        "their_rows_per_core_second": 1 / their["seconds_per_row"],
        "our_rows_per_core_second": 1 / mine["seconds_per_row"],
        "times_faster": their["seconds_per_row"] / mine["seconds_per_row"],
    }


def _compared(theirs: dict[str, Any], rules: Sequence[Filter], text: pa.Array) -> dict[str, Any]:
    equal, table = [], {}
    for rule in rules:
        their = theirs["rules"][rule.reason]
        kept = rule.keep({"caption": text.slice(0, PEER_ROWS)})
        same = "".join("01"[each] for each in kept.astype(int)) == their["kept"]
        table[rule.reason] = {
            "same_rows": same,
            "kept": int(kept.sum()),
            "their_rows_per_core_second": PEER_ROWS / their["cpu_seconds"],
            "our_rows_per_core_second": _speed([rule], text.slice(0, ALONE_ROWS)),
        }
        if same:
            equal.append(rule)
    found = {
        "version": theirs["version"],
        "rules": table,
        "equal_rules": [rule.reason for rule in equal],
        **_together(table, equal, text),
    }
    if len(equal) > 1:
        slowest = min(equal, key=lambda rule: table[rule.reason]["their_rows_per_core_second"])
        others = [rule for rule in equal if rule is not slowest]
        found["without_their_slowest"] = {"rule": slowest.reason, **_together(table, others, text)}
    return found


def _together(table: dict[str, Any], rules: Sequence[Filter], text: pa.Array) -> dict[str, Any]:
    """Return the speeds of some rules, one after the other on the same captions."""
    if not rules:
        return dict.fromkeys(("their_rows_per_core_second", "our_rows_per_core_second", "times_faster"))
    theirs = 1 / sum(1 / table[rule.reason]["their_rows_per_core_second"] for rule in rules)
    ours = _speed(rules, text)
    return {"their_rows_per_core_second": theirs, "our_rows_per_core_second": ours, "times_faster": ours / theirs}


def _speed(rules: Sequence[Filter], text: pa.Array) -> float:
    return len(text) / cpu_seconds(lambda: _keep_all(rules, text))


def _keep_all(rules: Sequence[Filter], text: pa.Array) -> None:
    from filters.verdicts import alike

    for _, batch in alike({"caption": text}, len(text)):
        for rule in rules:
            rule.keep(batch)


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
