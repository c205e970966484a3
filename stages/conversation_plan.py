"""The rows of one's own instruction data, read once, numbered and cut into pieces that become shards.

A picture in a tar is looked up here, where the tar is scanned, so that a shard is made by reading ranges. Rows that
cannot be taken apart and rows that come twice are carried on with their reason, and counted where the shard is made.
"""

import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from infra.scratch import scratch_folder
from stages.conversation_formats import Raw, rows_of
from stages.conversation_pictures import Place, checked_name, contents, is_tar, opened
from stages.conversation_rows import RowError
from stages.conversation_sources import OwnConversations
from stages.manifest import Ledger, Part
from stages.sources.identity import uid_of
from stages.workspace import Output

DEEPEST = 32
"""Most lists and objects within each other in a row; official rows have four, and Python cannot follow a thousand."""

Planned = dict[str, Any]
"""`where`, and either `uid`, `given` and in tars `places`, or `problem` as (reason, what)."""


def plan_source(item: tuple[str, str], output: Output, source: OwnConversations, rows_per_shard: int) -> Part:
    """Publish a source's rows in pieces of so many; the ledger counts those that are taken."""
    key, digest = item
    total = sum(1 for _ in rows_of(source, output.store)) if source.repeat < 1 else None
    taken = None if total is None else int(total * source.repeat)
    rows = itertools.islice(planned_rows(source, output), taken)
    files: dict[str, tuple[str, bytes | Path]] = {}
    listed = 0
    with scratch_folder("plan") as folder:
        while piece := list(itertools.islice(rows, rows_per_shard)):
            name = f"{source.name}-{len(files):06d}"
            path = folder / f"{name}.jsonl"
            path.write_text("\n".join(json.dumps(row, sort_keys=True) for row in piece))
            files[name] = f"plan/{name}.jsonl", path
            listed += len(piece)
        beyond = 0 if total is None else total - listed
        return output.part(key, digest, Ledger(listed=listed, kept=listed), files, {"beyond_repeat": beyond})


def planned_rows(source: OwnConversations, output: Output) -> Iterator[Planned]:
    """Yield the rows of a source with their names, and the places of their pictures in a tar."""
    there = None
    if source.pictures and is_tar(source.pictures) and not source.text_only:
        with opened(source.pictures, output.store) as tar:
            there = contents(tar, source.pictures)
    seen: dict[bytes, str] = {}
    yield from map(partial(_planned, source=source, there=there, seen=seen), rows_of(source, output.store))


def _planned(raw: Raw, source: OwnConversations, there: dict[str, Place] | None, seen: dict[bytes, str]) -> Planned:
    try:
        if isinstance(raw.given, RowError):
            raise raw.given
        if _deeper(raw.given, DEEPEST):
            raise RowError("shape", f"more than {DEEPEST} lists and objects lie within each other")
        uid = _uid(source, raw)
        if first := seen.get(uid):
            raise RowError("duplicate", f"the same row as {first}, with the same id")
        seen[uid] = raw.where
    except RowError as error:
        return {"where": raw.where, "problem": (error.reason, error.what)}
    found: Planned = {"where": raw.where, "uid": uid.hex(), "given": raw.given}
    if there is not None and isinstance(raw.given, dict):
        found["places"] = {name: there.get(_spelled(name)) for name in _names(raw.given)}
    return found


def _deeper(value: Any, most: int) -> bool:
    """Say whether more lists and objects than that lie within each other."""
    if not isinstance(value, dict | list):
        return False
    return most == 0 or any(
        _deeper(each, most - 1) for each in (value.values() if isinstance(value, dict) else value)
    )


def _uid(source: OwnConversations, raw: Raw) -> bytes:
    """Return the name of a row: of its source, its id and all that it says; ids alone are often those of pictures."""
    given = raw.given
    told = given.get("id") if isinstance(given, dict) else None
    # In ASCII: half a surrogate pair, which the checks will refuse, is no UTF-8.
    text = json.dumps(given, sort_keys=True)
    return uid_of(source.name, str(raw.where if told is None else told), text)


def _names(given: dict[str, Any]) -> list[str]:
    """Return the names of pictures or of a video, as far as they are texts."""
    image = given.get("image")
    named = [*(image if isinstance(image, list) else [image]), given.get("video")]
    return [name for name in named if isinstance(name, str)]


def _spelled(name: str) -> str:
    try:
        return checked_name(name)
    except RowError:
        return ""  # refused with its reason where the picture is read
