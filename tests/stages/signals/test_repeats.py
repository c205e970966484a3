"""Counts of repeats against naive ones, on random captions of several scripts."""

import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from filters.text.captions import Captions
from stages.signals import near_text, perceptual
from stages.signals.keys import mixed, of_hashes, of_ids, of_words
from stages.signals.repeats import LONGEST, asked, kinds, unrelated_answer

WORDS = ("red", "Red", "bicycle", "7", "9", "собака", "公園の犬", "café", "CAFÉ", "หมา", "ضوء", "x")


def table(seed: int, rows: int = 300) -> tuple[pa.Table, pa.Table]:
    """Return (listed rows, outcomes), of which every row has a picture."""
    rng = random.Random(seed)
    captions = [" ".join(rng.choices(WORDS, k=rng.randint(0, 3))) for _ in range(rows)]
    hashes = [f"{rng.randint(0, 40):016x}" + "0" * 48 for _ in range(rows)]
    ids = [rng.randint(0, 100).to_bytes(8, "big") + bytes(8) for _ in range(rows)]
    outcomes = pa.table(
        {
            "sha256": hashes,
            "url_id": pa.array(ids, pa.binary(16)),
            "phash": pa.array([rng.getrandbits(64) for _ in range(rows)], pa.uint64()),
            "host": [rng.choice(("a.org", "b.org", None)) for _ in range(rows)],
        }
    )
    return pa.table({"caption": captions}), outcomes


def fold(caption: str) -> str:
    return "".join("0" if each.isdigit() else each for each in " ".join(caption.split()).lower())


def answered(listed: pa.Table, outcomes: pa.Table, usable: np.ndarray | None = None) -> dict[str, list[float]]:
    names = kinds(True, True)
    looked = np.zeros(outcomes.num_rows, bool) if usable is None else usable
    found, _ = asked(names, listed, outcomes, listed["caption"].combine_chunks(), looked, 10)
    result = {}
    for name, kind in names.items():
        rows, at = found[name]
        given = np.append(kind.answer(rows), 0)
        merged = kind.merge(np.where(at >= 0, given[at], 0), axis=1, initial=0)
        result[name] = np.where((at >= 0).any(axis=1), merged, np.nan).tolist()
    return result


@pytest.mark.parametrize("seed", range(3))
def test_exact_repeats_are_counted_as_a_counter_would(seed: int) -> None:
    listed, outcomes = table(seed)
    found = answered(listed, outcomes)
    captions, hashes = listed["caption"].to_pylist(), outcomes["sha256"].to_pylist()
    by_caption, by_hash = Counter(map(fold, captions)), Counter(hashes)
    assert found["caption_frequency"] == [by_caption[fold(each)] for each in captions]
    assert found["duplicates"] == [by_hash[each] for each in hashes]
    assert np.isnan(found["perceptual_duplicates"]).all()


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_captions_are_counted_per_picture(seed: int) -> None:
    listed, outcomes = table(seed)
    found = answered(listed, outcomes)["soft_404"]
    captions, ids = map(fold, listed["caption"].to_pylist()), outcomes["url_id"].to_pylist()
    seen: dict[str, list[tuple[bytes, str]]] = {}
    for picture, url, caption in zip(outcomes["sha256"].to_pylist(), ids, captions, strict=True):
        seen.setdefault(picture, []).append((url, caption))
    for row, picture in enumerate(outcomes["sha256"].to_pylist()):
        urls, texts = (len({pair[n] for pair in seen[picture]}) for n in (0, 1))
        assert found[row] == (min(urls, texts) if texts >= urls / 2 else 1)


def picture(pairs: list[tuple[int, int]]) -> list[int]:
    rows = np.array([[9, url, caption] for url, caption in pairs], dtype=np.uint64)
    return sorted(set(unrelated_answer(rows).tolist()))


def test_a_press_photograph_is_one_caption_and_a_placeholder_many() -> None:
    assert picture([(url, 1) for url in range(100)]) == [1]
    assert picture([(url, url % 5) for url in range(100)]) == [1]
    assert picture([(url, url) for url in range(100)]) == [100]
    assert picture([(1, caption) for caption in range(100)]) == [1]  # one address with many captions


def test_a_recompressed_placeholder_is_the_same_picture_where_pixels_were_looked_at() -> None:
    listed = pa.table({"caption": [f"word{chr(97 + n)}" for n in range(12)]})
    outcomes = pa.table(
        {
            "sha256": [f"{n:064x}"[::-1] for n in range(1, 13)],
            "url_id": pa.array([n.to_bytes(8, "big") + bytes(8) for n in range(12)], pa.binary(16)),
            "phash": pa.array([12345] * 12, pa.uint64()),
            "host": ["a.org"] * 12,
        }
    )
    assert set(answered(listed, outcomes)["soft_404"]) == {1}
    looked = np.arange(12) > 0
    found = answered(listed, outcomes, looked)
    assert found["soft_404"] == [1, *[11] * 11]
    # A flat picture's hash means nothing: it is near to nobody.
    assert np.isnan(found["perceptual_duplicates"][0]) and found["perceptual_duplicates"][1:] == [11] * 11


def test_lengths_are_counted_over_all_listed_captions() -> None:
    listed, outcomes = table(5)
    long = pa.table({"caption": ["y" * 5000]})
    _, lengths = asked(
        kinds(False, False),
        pa.concat_tables([listed, long]),
        outcomes,
        listed["caption"].combine_chunks(),
        np.zeros(300, bool),
        10,
    )
    wanted = Counter(len(" ".join(text.split())) for text in listed["caption"].to_pylist())
    assert lengths[LONGEST] == 1 and {n: int(c) for n, c in enumerate(lengths) if c and n < LONGEST} == wanted


def test_bands_are_minima_over_all_grams() -> None:
    texts = [
        "A red bicycle leans against a wall",
        "собака бежит по снегу",
        "公園のベンチに座っている老人と犬",
        "four",
        None,
    ]
    captions = Captions(pa.array(texts))
    rows = np.flatnonzero(captions.length >= near_text.GRAM)
    found = near_text._minima(captions, rows)
    factors, addends = near_text._constants()
    for row, text in zip(found, [t for t in texts if t and len(t) >= 5], strict=True):
        grams = {text.lower()[n : n + 5] for n in range(len(text) - 4)}
        hashed = []
        for gram in grams:
            points = [ord(each) for each in gram]
            first = mixed(np.array([sum(p << 16 * n for n, p in enumerate(points[:4]))], dtype=np.uint64))
            hashed.append(int(mixed(first ^ np.uint64(points[4]))[0]) >> 32)
        wanted = [
            min((h * f + a) % 2**32 for h in hashed) for f, a in zip(factors.tolist(), addends.tolist(), strict=True)
        ]
        assert row.tolist() == wanted


def test_near_captions_of_one_host_are_counted_together() -> None:
    base = "A red bicycle leans against a white wall in a narrow street of the old town, in the evening sun"
    texts = [
        base,
        base,
        base.replace("evening", "morning"),
        base.replace("red", "RED"),
        base,
        "Dogs on a beach",
        "abc",
    ]
    hosts = ["a.org", "a.org", "a.org", "a.org", "b.org", "a.org", "a.org"]
    outcomes = table(0, len(texts))[1].set_column(3, "host", [hosts])
    found = answered(pa.table({"caption": texts}), outcomes)["near_duplicates"]
    assert found[:6] == [4, 4, 4, 4, 1, 1] and np.isnan(found[6])


def test_keys_are_the_first_bits_of_what_they_name() -> None:
    assert of_hashes(pa.chunked_array([["00000000000000ff" + "a" * 48, None]])).tolist() == [255, 0]
    assert of_ids(pa.chunked_array([pa.array([bytes(7) + b"\x05" + bytes(8)], pa.binary(16))])).tolist() == [5]
    one, other, again, null = of_words(pa.chunked_array([["a", "b"], ["a", None]])).tolist()
    assert one == again != other and null == of_words(pa.chunked_array([[""]])).tolist()[0]
    assert perceptual.DISTANCE == 4
