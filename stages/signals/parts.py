"""One part of a source: what it asks of all others, and the files of signals that it writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.text.captions import Captions
from filters.text.language import names as languages_of
from stages.manifest import Ledger, Manifest, ManifestError, Part
from stages.outcome import Outcome
from stages.signals import repeats
from stages.signals.column_files import Halves, column_bytes, numbers, vectors
from stages.signals.embedding import Tower, aligned, embed, unit
from stages.signals.evaluation_sets import LEAST_VARIANCE
from stages.signals.exchange import Exchange
from stages.signals.heads import Head
from stages.signals.overlap import Index, open_index
from stages.signals.parameters import SHIPPED, Parameters
from stages.signals.pixels import part_facts
from stages.workspace import Output, read_file, read_table


@dataclass(frozen=True)
class Work:
    """What every part of a source needs; safe to send to workers."""

    output: Output
    pool: Manifest
    listing: Manifest
    parameters: Parameters
    tower: Tower
    made_by: dict[str, str]
    heads: tuple[Head, ...]
    index: Index | None
    exchange: Exchange
    spikes: tuple[float, ...] = ()


Item = tuple[str, str, Part, Part]
"""Key, input digest, part of the listing, part of the pool."""


def _rows(item: Item, work: Work) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return (all listed rows, outcomes of the rows that have a picture by uid, their listed rows)."""
    key, _, listed, fetched = item
    outcomes = read_table(work.output.store, work.pool, fetched, "outcomes")
    outcomes = outcomes.filter(pc.equal(outcomes["outcome"], str(Outcome.FETCHED))).sort_by("uid")
    rows = read_table(work.output.store, work.listing, listed, "rows")
    places = pc.index_in(outcomes["uid"], rows["uid"].combine_chunks())
    if places.null_count:
        raise ManifestError(
            f"{work.pool.ref} part {key} has pictures of rows that {work.listing.ref} does not list; download again"
        )
    return rows, outcomes, rows.take(places)


def ask_part(item: Item, work: Work) -> npt.NDArray[np.int64]:
    """Ask what a part cannot know alone; return how many of its listed captions have each length."""
    listed, outcomes, rows = _rows(item, work)
    kept: dict[str, npt.NDArray[Any]] = {}
    usable = np.zeros(outcomes.num_rows, dtype=bool)
    if work.parameters.pixel_facts:
        tar = read_file(work.output.store, work.pool, item[3].files["pictures"])
        kept = dict(part_facts(tar, [uid.hex() for uid in outcomes["uid"].to_pylist()]))
        usable = kept["gray_variance"] >= LEAST_VARIANCE
        usable &= pc.is_valid(outcomes["phash"]).to_numpy()
    asked, lengths = repeats.asked(
        work.exchange.kinds, listed, outcomes, rows["caption"].combine_chunks(), usable, work.pool.ledger.kept
    )
    work.exchange.ask(item[0], asked, kept)
    return lengths


def score_part(item: Item, work: Work) -> Part:
    """Write one column file per signal for the fetched rows of one part, in uid order."""
    key, digest, _, fetched = item
    _, outcomes, rows = _rows(item, work)
    repeated, facts = work.exchange.read(key)
    images, texts = _embedded(outcomes, fetched, work)
    with np.errstate(invalid="ignore"):
        vector, similarity = unit(images), (unit(images) * unit(texts)).sum(axis=1)
    if not images.shape[1]:
        similarity = np.full(len(images), np.nan, dtype=np.float32)
    columns = _known(outcomes, rows) | {name: numbers(values) for name, values in (repeated | facts).items()}
    columns["length_spike"] = numbers(_spikes(rows["caption"], work.spikes))
    columns["clip_similarity"] = numbers(similarity)
    columns["eval_similarity"] = pa.nulls(len(rows), pa.float32())
    if work.index is not None:
        hits = open_index(work.output, work.index).find(outcomes, images, work.parameters.min_hit_similarity)
        columns["eval_similarity"] = numbers(hits.similarity)
        columns["eval_hit"] = pa.array(hits.names, pa.string())
    for head in work.heads:
        columns[head.name] = numbers(head(vector)) if images.shape[1] else pa.nulls(len(rows), pa.float32())
    if work.parameters.keep_embeddings:
        columns |= {"image_embedding": vectors(images), "text_embedding": vectors(texts)}
    uids = outcomes["uid"].combine_chunks()
    files = {
        name: (f"{name}/{key}.parquet", column_bytes(uids, column, _made_by(name, work)))
        for name, column in columns.items()
    }
    unscored = columns["clip_similarity"].null_count
    ledger = Ledger(listed=len(uids), kept=len(uids))
    return work.output.part(key, digest, ledger, files, {"unscored": unscored} if unscored else None)


def _embedded(outcomes: pa.Table, fetched: Part, work: Work) -> tuple[Halves, Halves]:
    """Return embeddings of pictures and captions, shape (rows, width), NaN for what could not be read."""
    if not outcomes.num_rows:
        return np.zeros((0, 0), np.float16), np.zeros((0, 0), np.float16)
    store = work.output.store
    tar = read_file(store, work.pool, fetched.files["pictures"])
    found = embed(tar, work.tower.name(store), work.tower.batch_size, text=True)
    assert found.texts is not None
    wanted = [uid.hex() for uid in outcomes["uid"].to_pylist()]
    return aligned(found.images, found.keys, wanted), aligned(found.texts, found.keys, wanted)


def _known(outcomes: pa.Table, rows: pa.Table) -> dict[str, pa.Array]:
    """Return the signals that only have to be written down: what the source says, and what download saw."""
    width, height = (_floats(outcomes[name]).to_numpy() for name in ("original_width", "original_height"))
    short, long = np.minimum(width, height), np.maximum(width, height)
    sent = pc.coalesce(outcomes["body_bytes"], outcomes["bytes"])

    def told(name: str) -> pa.Array:
        there = name in outcomes.column_names
        return _floats(outcomes[name]) if there else pa.nulls(len(rows), pa.float32())

    return {
        "caption": rows["caption"].combine_chunks(),
        "language": _languages(rows),
        **{name: numbers(rows[f"source_{name}"].to_numpy()) for name in SHIPPED},
        "min_side": numbers(short),
        "aspect": numbers(long / np.maximum(short, 1)),
        "pixels": numbers(width * height),
        "image_bytes": _floats(sent),
        "phash": outcomes["phash"].combine_chunks(),
        "frames": told("frames"),
        "decoded_share": told("decoded_share"),
    }


def _floats(column: pa.ChunkedArray) -> pa.Array:
    """Return whole numbers as the nearest float32; a safe cast would refuse those above 2^24."""
    return column.cast(pa.float32(), safe=False).combine_chunks()


def _languages(rows: pa.Table) -> pa.Array:
    """Return the declared language, and where none is declared the one that the caption seems to be in."""
    declared = rows["language"].combine_chunks()
    unknown = declared.is_null()
    if not declared.null_count:
        return declared
    guessed = languages_of(Captions(rows["caption"].filter(unknown))).cast(pa.string())
    return pc.replace_with_mask(declared, unknown, pc.if_else(pc.equal(guessed, ""), None, guessed))


def _spikes(captions: pa.ChunkedArray, by_length: Sequence[float]) -> npt.NDArray[np.float32]:
    lengths = Captions(captions).length if len(captions) else np.zeros(0, dtype=np.int64)
    return np.array(by_length, dtype=np.float32)[np.minimum(lengths, repeats.LONGEST)]


def _made_by(name: str, work: Work) -> dict[str, str] | None:
    """Return what a column file says about the models behind it."""
    for head in work.heads:
        if head.name == name:
            return {"head_sha256": head.sha256, **work.made_by}
    seen = ("clip_similarity", "eval_similarity", "eval_hit", "image_embedding", "text_embedding")
    return work.made_by if name in seen else None
