"""What repeats in a source: pictures, captions, near copies of both, and one picture under many captions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.text.captions import Captions
from filters.text.folding import folded_keys
from stages.signals import near_text, perceptual
from stages.signals.exchange import Asked, Kind
from stages.signals.keys import Ints, Keys, counted, mixed, of_hashes, of_ids, of_words

LONGEST = 2_000
"""Lengths are counted up to here."""
MOST_PAIRS = 4_096
"""Addresses of one picture that are looked at: those whose hashes come first, whatever part they are in."""
UNRELATED_SHARE = 0.5
"""Of a picture's addresses, the share with a caption of their own from which captions count as unrelated."""


def count_answer(rows: Keys) -> Ints:
    """Return how often the key of each row (key, count) is there in all."""
    _, totals, back = counted(rows[:, 0], rows[:, 1].astype(np.int64))
    return np.asarray(totals[back])


def unrelated_answer(rows: Keys) -> Ints:
    """Return how many unrelated captions the picture of each row (picture, address, caption) has.

    A picture that stands for many others ("no longer available") has about as many captions as addresses; a
    press photograph has one or a few, however many pages show it, and counts as one.
    """
    whole = few_addresses(rows)
    pictures, sizes = np.unique(whole[:, 0], return_counts=True)
    group = np.repeat(np.arange(len(pictures)), sizes)
    addresses, captions = (_distinct(group, whole[:, column], len(pictures)) for column in (1, 2))
    found = np.where(captions >= UNRELATED_SHARE * addresses, np.minimum(addresses, captions), 1)
    return np.asarray(found[np.searchsorted(pictures, rows[:, 0])])


def few_addresses(rows: Keys) -> Keys:
    """Return the distinct rows (picture, address, caption), of each picture at most `MOST_PAIRS`, chosen by hash.

    A picture that millions of rows show needs no more memory than others, and what is chosen of all parts is
    what is chosen of what each part chose.
    """
    whole = np.unique(rows, axis=0)
    rank = mixed(mixed(whole[:, 1]) ^ whole[:, 2])
    whole = whole[np.lexsort((rank, whole[:, 0]))]
    _, firsts, sizes = np.unique(whole[:, 0], return_index=True, return_counts=True)
    return np.asarray(whole[np.arange(len(whole)) - np.repeat(firsts, sizes) < MOST_PAIRS])


def _distinct(group: Ints, values: Keys, groups: int) -> Ints:
    """Return how many different values each group has."""
    order = np.lexsort((values, group))
    group, values = group[order], values[order]
    fresh = np.ones(len(group), dtype=bool)
    fresh[1:] = (group[1:] != group[:-1]) | (values[1:] != values[:-1])
    return np.bincount(group[fresh], minlength=groups).astype(np.int64)


def kinds(near_captions: bool, near_pictures: bool) -> dict[str, Kind]:
    """Return the questions to ask, by the name of their signal."""
    found = {
        "duplicates": Kind(2, count_answer, np.max),
        "caption_frequency": Kind(2, count_answer, np.max),
        "soft_404": Kind(3, unrelated_answer, np.max),
    }
    if near_captions:
        found["near_duplicates"] = Kind(2, count_answer, np.max, near_text.BANDS)
    if near_pictures:
        found["perceptual_duplicates"] = Kind(
            4, perceptual.answer, np.sum, len(perceptual.tables(perceptual.FEW_ROWS + 1))
        )
    return found


def asked(
    names: Mapping[str, Any],
    listed: pa.Table,
    fetched: pa.Table,
    captions: pa.Array,
    usable: npt.NDArray[np.bool_],
    rows: int,
) -> tuple[dict[str, Asked], Ints]:
    """Return what a part asks, and how many listed captions have each length.

    Args:
        names: The questions that are asked.
        listed: All rows of the part's listing.
        fetched: Its rows that have a picture.
        captions: Of the fetched rows.
        usable: Fetched rows whose perceptual hash means something; all False where that was not looked at.
        rows: Of the whole source.
    """
    every, some = Captions(listed["caption"]), Captions(captions)
    texts = folded_keys(some)
    pictures = of_hashes(fetched["sha256"])
    hashes = fetched["phash"].fill_null(0).to_numpy()
    # A recompressed copy has other bytes and the same perceptual hash.
    same = np.where(usable, mixed(mixed(hashes) ^ np.uint64(1)), pictures)
    triples = few_addresses(np.stack([same, of_ids(fetched["url_id"]), texts], axis=1))
    found = {
        "duplicates": _counts(pictures, pictures),
        "caption_frequency": _counts(folded_keys(every), texts),
        "soft_404": Asked(triples, np.searchsorted(triples[:, 0], same).reshape(-1, 1)),
    }
    if "near_duplicates" in names:
        found["near_duplicates"] = Asked(*near_text.ask(some, of_words(fetched["host"])))
    if "perceptual_duplicates" in names:
        found["perceptual_duplicates"] = Asked(*perceptual.ask(hashes, usable, rows))
    lengths = np.bincount(np.minimum(every.length, LONGEST), minlength=LONGEST + 1)
    return found, lengths.astype(np.int64)


def _counts(keys: Keys, wanted: Keys) -> Asked:
    distinct, counts, _ = counted(keys)
    return Asked(
        np.stack([distinct, counts.astype(np.uint64)], axis=1), np.searchsorted(distinct, wanted).reshape(-1, 1)
    )
