"""Cut shards again, to other sizes or to a list of samples to keep: bytes are copied, no picture is decoded.

The result is what `stages/write_shards.py` writes from verdicts that keep the same samples, byte for byte: blocks and
the order inside them do not depend on what is kept. Every takedown list in the store is honoured.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from infra.storage import Store, sha256_file
from stages.manifest import File, Ledger, Manifest, ManifestError, Part, digest_of
from stages.operator_lists import lines_of
from stages.shard_index import (
    block_of,
    layout,
    layout_of,
    make_shard,
    plan_files,
    planned,
    planned_items,
    read_index,
    shard_totals,
)
from stages.takedown_list import load_lists, registered
from stages.workspace import Output, Workspace

VERSION = 1
UID_BYTES = 16
PIECE_BYTES = UID_BYTES << 20


class Parameters(BaseModel):
    """What is kept, and how large shards become."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: str | None = Field(
        default=None, description="List of uids, one a line in hexadecimal or parquet; all when left out."
    )
    keep_sha256: str | None = Field(default=None, description="Hash of that list; filled in at start.")
    takedowns: tuple[str, ...] = Field(
        default=(), description="Takedown lists in the store; filled in at start, and later ones are honoured too."
    )
    rows_per_shard: int | None = Field(default=None, ge=1, description="As in the given shards when left out.")
    bytes_per_shard: int | None = Field(default=None, ge=1, description="As in the given shards when left out.")


def pin(parameters: Parameters, store: Store) -> Parameters:
    """Return the parameters with what they depend on, so that a changed list is seen as drift.

    Raises:
        ManifestError: The list is not there.
    """
    return parameters.model_copy(
        update={"keep_sha256": _hash(parameters.keep) if parameters.keep else None, "takedowns": registered(store)}
    )


def _hash(path: str) -> str:
    if not Path(path).is_file():
        raise ManifestError(f"the list {path} is not a file; give one with a uid a line, or parquet")
    return sha256_file(Path(path))


def pack_uids(path: str, target: Path) -> int:
    """Write a list of uids as plain 16-byte values, line by line; return how many.

    Raises:
        ManifestError: The list cannot be read, is empty, or an entry is no uid.
    """
    count = 0
    with target.open("wb") as out:
        for number, line in lines_of(path):
            word = line.lower().removeprefix("uid:")
            if len(word) != 2 * UID_BYTES or not set(word) <= set("0123456789abcdef"):
                raise ManifestError(f"{path} line {number} is no uid; give 32 hexadecimal digits a line, or parquet")
            out.write(bytes.fromhex(word))
            count += 1
    if not count:
        raise ManifestError(f"{path} names no uid, so nothing would be kept; give 32 hexadecimal digits a line")
    return count


def kept_of(store: Store, key: str, size: int, uids: list[bytes]) -> list[bool]:
    """Say for each uid whether a packed list holds it; the list goes by in pieces."""
    wanted = np.array(uids, dtype=f"S{UID_BYTES}")
    found = np.zeros(len(uids), dtype=bool)
    for start in range(0, size, PIECE_BYTES):
        piece = store.read_range(key, start, min(start + PIECE_BYTES, size))
        found |= np.isin(wanted, np.frombuffer(piece, dtype=wanted.dtype))
    return [bool(each) for each in found]


def plan_block(
    item: tuple[str, str, list[Part]],
    output: Output,
    shards: Manifest,
    keep: File | None,
    sizes: dict[str, int],
    lists: tuple[str, ...],
) -> Part:
    """Plan the new shards of one block from the indexes of the old ones; no archive is opened."""
    block, digest, parts = item
    takedown = load_lists(output.store, lists)
    taken: Counter[str] = Counter()
    tables, listed = [], 0
    for part in parts:
        table = read_index(output.store, shards, part)
        listed += table.num_rows
        if keep is not None:
            named = kept_of(output.store, output.ref.key(keep.name), keep.bytes, table["uid"].to_pylist())
            table = table.filter(pa.array(named, pa.bool_()))
        kinds = takedown.kinds(table, f"{shards.ref} shard {part.key}")
        taken.update(kind for kind in kinds if kind)
        table = table.filter(pa.array([kind is None for kind in kinds], pa.bool_()))
        tables.append(planned(table, shards.key(part.files["tar"])))
    plan = pa.concat_tables(tables)
    files = plan_files(block, plan, plan["bytes"].to_pylist(), sizes["rows_per_shard"], sizes["bytes_per_shard"])
    ledger = Ledger(listed=listed, kept=plan.num_rows, rejected=listed - plan.num_rows)
    return output.part(f"plan-{block}", digest, ledger, files, {"taken_down": dict(sorted(taken.items()))})


def _blocks(
    shards: Manifest, keep: File | None, lists: tuple[str, ...]
) -> Iterator[tuple[str, str, tuple[str, str, list[Part]]]]:
    found: dict[str, list[Part]] = {}
    for part in shards.parts:
        found.setdefault(block_of(part.key), []).append(part)
    for block, parts in sorted(found.items()):
        hashes = [[part.key, sorted(file.sha256 for file in part.files.values())] for part in parts]
        digest = digest_of([hashes, keep.sha256 if keep else None, list(lists)])
        yield f"plan-{block}", digest, (block, digest, parts)


def _sizes(parameters: Parameters, shards: Manifest) -> dict[str, int]:
    """Return the sizes to aim at, those of the given shards where none are asked for."""
    before = layout_of(shards)
    rows, most = parameters.rows_per_shard, parameters.bytes_per_shard
    return layout(rows or before["rows_per_shard"], most or before["bytes_per_shard"])


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Write what is kept of some shards in shards of its own."""
    shards = here.input("shards")
    sizes, lists = _sizes(parameters, shards), tuple(sorted({*parameters.takedowns, *registered(here.store)}))
    keep, asked = None, 0
    if parameters.keep is not None:
        if parameters.keep_sha256 not in (None, _hash(parameters.keep)):
            raise ManifestError(f"{parameters.keep} is not the list that this run began with; start the run again")
        packed = here.scratch / "keep.bin"
        asked = pack_uids(parameters.keep, packed)
        keep = output.file("state/keep.bin", packed)
    work = partial(plan_block, output=output, shards=shards, keep=keep, sizes=sizes, lists=lists)
    plans = here.map_parts(output, work, list(_blocks(shards, keep, lists)), unit="blocks", light=True)
    ledger = sum((plan.ledger for plan in plans), Ledger(listed=0, kept=0))
    taken = sum((Counter(plan.facts["taken_down"]) for plan in plans), Counter[str]())
    if not ledger.kept:
        raise ManifestError(
            f"none of the {ledger.listed} samples of {shards.ref} would be kept: of {asked} uids in the list "
            f"{taken.total()} are there and taken down, the others are not there; check the list"
        )
    parts = here.map_parts(
        output, partial(make_shard, output=output), planned_items(plans), unit="shards", light=True
    )
    taken_down = {"lists": len(lists), "rows": dict(sorted(taken.items()))}
    totals = shard_totals(parts, sizes, taken_down)
    if keep is not None:
        totals["keep"] = {"listed": asked, "kept": ledger.kept}
    return output.commit(parts, ledger=ledger, totals=totals)
