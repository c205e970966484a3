"""Data-Juicer and datatrove on the same captions as our rules of the same meaning: which rows are kept, how fast."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import peer_tools
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
from benchmarks.timing import cpu_seconds
from filters.base import Filter
from filters.text import Captions
from filters.verdicts import alike

PEER_ROWS, ALONE_ROWS = 20_000, 200_000
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
    for _, batch in alike({"caption": text}, len(text)):
        for rule in rules:
            rule.keep(batch)
