"""Draw a few urls of a listing by hash: a small listing that stands for the whole one.

Which urls are drawn depends on nothing but the urls, so the pilot of the same list is the same one
everywhere and always. All rows of a drawn url come along, as they would in the whole list.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from infra.storage import Store
from stages.manifest import Ledger, Manifest, ManifestError, Part, digest_of
from stages.workspace import Output, Workspace, parquet_bytes, read_table

VERSION = 1
MOST_PARTS = 256
"""Parts that are read: of a longer list as many are drawn by hash. Parts are buckets of hashed urls, hence alike."""


class Parameters(BaseModel):
    """How large the pilot is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: int = Field(default=10_000, ge=1, description="Distinct urls that are drawn; all where there are fewer.")
    urls_per_part: int = Field(default=1000, ge=1, description="Urls of one part of the pilot.")


def rank(url_id: bytes) -> bytes:
    """Return the place of a url in the draw: a hash of its own, independent of what parts were cut by."""
    return hashlib.sha256(b"pilot" + url_id).digest()[:16]


def lowest(part: Part, store: Store, listing: Manifest, urls: int) -> tuple[list[bytes], int, int]:
    """Return the url ids of a part that are first in the draw, with its rows and distinct urls."""
    column = read_table(store, listing, part, "rows", ["url_id"])["url_id"]
    distinct = set(column.to_pylist())
    return sorted(distinct, key=rank)[:urls], len(column), len(distinct)


def _rows_of(part: Part, store: Store, listing: Manifest, wanted: pa.Array) -> pa.Table:
    table = read_table(store, listing, part, "rows")
    return table.filter(pc.is_in(table["url_id"], value_set=wanted))


def _publish(item: tuple[str, str, pa.Table], output: Output) -> Part:
    key, digest, table = item
    ledger = Ledger(listed=table.num_rows, kept=table.num_rows)
    return output.part(key, digest, ledger, {"rows": (f"{key}.parquet", parquet_bytes(table))})


def _pieces(table: pa.Table, chosen: Sequence[bytes], urls_per_part: int) -> list[tuple[str, str, Any]]:
    """Return the parts to publish; rows of one url stay together, rows of a part are in the order of their uids."""
    items = []
    for number, start in enumerate(range(0, len(chosen), urls_per_part)):
        some = pa.array(chosen[start : start + urls_per_part], table["url_id"].type)
        piece = table.filter(pc.is_in(table["url_id"], value_set=some))
        piece = piece.take(pa.array(sorted(range(piece.num_rows), key=piece["uid"].to_pylist().__getitem__)))
        key = f"{number:06d}"
        digest = digest_of([uid.hex() for uid in piece["uid"].to_pylist()])
        items.append((key, digest, (key, digest, piece)))
    return items


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Draw the pilot of a listing.

    Raises:
        ManifestError: The listing holds no rows.
    """
    listing = here.input("listing")
    read = sorted(listing.parts, key=lambda part: digest_of(["pilot", part.key]))[:MOST_PARTS]
    look = partial(lowest, store=output.store, listing=listing, urls=parameters.urls)
    found = list(here.cluster.map(look, read))
    chosen = sorted((url_id for some, _, _ in found for url_id in some), key=rank)[: parameters.urls]
    if not chosen:
        raise ManifestError(f"{listing.ref} holds no rows to draw a pilot from; look at what its listing refused")
    wanted = pa.array(chosen, pa.binary(16))
    fetch = partial(_rows_of, store=output.store, listing=listing, wanted=wanted)
    table = pa.concat_tables(list(here.cluster.map(fetch, read)))
    rows, urls = sum(rows for _, rows, _ in found), sum(urls for _, _, urls in found)
    parts = here.map_parts(
        output, partial(_publish, output=output), _pieces(table, chosen, parameters.urls_per_part), light=True
    )
    whole = listing.ledger
    return output.commit(
        parts,
        totals={
            "urls": len(chosen),
            "rows": table.num_rows,
            # What the pilot stands for; of a list that was not read whole, its urls are in proportion.
            "whole": {"listed": whole.listed, "rows": whole.kept, "urls": round(whole.kept * urls / max(rows, 1))},
        },
    )
