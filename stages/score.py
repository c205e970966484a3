"""Compute every signal once: how well captions fit, what resembles evaluation pictures, what repeats.

Each part first asks what it cannot know alone (how often a picture or a caption is there in the whole
source), all parts' questions are answered bucket by bucket, and then each part writes its signals: one
narrow file each. What a recipe does not configure is not computed.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from filters.text.folding import spikes
from stages.manifest import Manifest, ManifestError, digest_of
from stages.quarantine import keys_in
from stages.signals import evaluation_sets, repeats
from stages.signals.column_files import load_embeddings
from stages.signals.embedding import Tower
from stages.signals.exchange import Exchange
from stages.signals.heads import Head, read_heads
from stages.signals.overlap import Index, publish_index
from stages.signals.parameters import Parameters
from stages.signals.parts import Item, Work, ask_part, score_part
from stages.sources.collect import spread
from stages.workspace import Output, Workspace

__all__ = ["VERSION", "Parameters", "load_embeddings", "run"]

VERSION = 2


def _items(pool: Manifest, listing: Manifest, decided_by: Any) -> list[tuple[str, str, Item]]:
    """Return the parts to score; a part is another one where anything that decides its signals is another."""
    by_key = {part.key: part for part in pool.parts}
    gone = keys_in(pool.totals)
    if missing := [part.key for part in listing.parts if part.key not in by_key.keys() | gone]:
        raise ManifestError(f"{pool.ref} has no part {missing[0]} of {listing.ref}; download that listing first")
    items = []
    for part in (each for each in listing.parts if each.key in by_key):
        files = [part.files["rows"], *(by_key[part.key].files[role] for role in ("outcomes", "pictures"))]
        digest = digest_of([*(file.sha256 for file in files), decided_by])
        items.append((part.key, digest, (part.key, digest, part, by_key[part.key])))
    return items


def _rows(item: Item) -> int:
    """Return how many pictures a part of the pool holds."""
    return item[3].ledger.kept


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Score all parts of a pool.

    Raises:
        ManifestError: Pool and listing do not belong together, a head or an evaluation set cannot be used, or
            more pictures than `max_unscored` came out of the model without a score.
    """
    pool, listing = here.input("pool"), here.input("listing")
    network = here.input("checkpoints") if parameters.clip_model is None else None
    tower, heads = Tower(parameters.clip_model, network, parameters.batch_size), read_heads(parameters.heads)
    made_by = tower.facts()
    index = _index(parameters, tower, output, here)
    decided_by = [made_by, [head.sha256 for head in heads], index.digest if index else None]
    items = _items(pool, listing, decided_by)
    kinds = repeats.kinds(parameters.near_duplicates, parameters.pixel_facts)
    asked = listing.ledger.kept * sum(kind.rows_per_sample for kind in kinds.values())
    exchange = Exchange.of(here, output, kinds, asked, tuple(key for key, _, _ in items))
    work = Work(output, pool, listing, parameters, tower, made_by, heads, index, exchange)
    try:
        if len(output.standing((key, digest) for key, digest, _ in items)) < len(items):
            none = np.zeros(repeats.LONGEST + 1, dtype=np.int64)
            lengths = sum(spread(here.cluster, partial(ask_part, work=work), [item for _, _, item in items]), none)
            for _ in spread(here.cluster, exchange.answer, range(exchange.buckets)):
                pass
            work = replace(work, spikes=tuple(spikes(lengths).tolist()))
        parts = here.map_parts(output, partial(score_part, work=work), items, light=True, rows=_rows)
    finally:
        exchange.clear()
    rows, unscored = sum(part.ledger.listed for part in parts), sum(part.facts.get("unscored", 0) for part in parts)
    if unscored > parameters.max_unscored * rows:
        raise ManifestError(
            f"{unscored} of {rows} pictures of {pool.ref} came out of {made_by['model']} without a score, more "
            f"than max_unscored {parameters.max_unscored:g}; `internvl verify {pool.ref}`, or raise the limit"
        )
    totals = _totals(made_by, heads, unscored)
    manifest = output.commit(parts, totals=totals, quarantined=here.quarantined)
    exchange.clear_all()
    return manifest


def _index(parameters: Parameters, tower: Tower, output: Output, here: Workspace) -> Index | None:
    def all_references() -> Any:
        yield from evaluation_sets.references(parameters.sets)
        yield from evaluation_sets.drawn(parameters.evaluation_scenes, parameters.image_size, parameters.seed)

    return publish_index(all_references(), tower, output, here.scratch / "evaluation")


def _totals(made_by: dict[str, str], heads: tuple[Head, ...], unscored: int) -> dict[str, Any]:
    return {
        "clip_weights_sha256": made_by.get("weights_sha256"),
        "clip_model": made_by["model"],
        "unscored": unscored,
        **({"heads": {head.name: head.sha256 for head in heads}} if heads else {}),
    }
