"""Which rows are shown, and how: nearest the threshold, by hash; pictures pixelated unless known to be safe."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from random_rows import some
from report_pages import judged, judged_captions, picture, uid

from filters.bits import BITS
from filters.stops import moved
from stages.manifest import Ledger, Part
from stages.report import survey as survey_module
from stages.report.gallery import CHANGING, NEAR, edges_of, first_of
from stages.report.survey import chosen_of, hashes, parts_of
from stages.report.thumbnails import BLOCKS, MOST_BYTES, SIDE, thumbnail


def test_rows_nearest_the_threshold_are_shown_and_no_nearer_one_is_left_out() -> None:
    found = judged(800)
    edge = next(each for each in found.gallery.edges if each.reason == "length_units")
    rule = next(each for each in found.policy.filters if each.reason == "length_units")
    measure = found.seen.sample.measures["length_units"]
    kept = np.abs(measure[found.reasons == 0] - rule.min_units)  # type: ignore[attr-defined]
    shown = [abs(row.measure - rule.min_units) for row in edge.kept]  # type: ignore[attr-defined, operator]
    assert np.allclose(sorted(kept)[:NEAR], shown) and all(row.kept for row in edge.kept)
    only = found.reasons == np.uint64(1 << BITS["length_units"])
    assert len(edge.dropped) == NEAR and not any(row.kept for row in edge.dropped)
    names = {found.uids[at].hex() for at in np.flatnonzero(only)}
    assert sum(row.uid in names for row in edge.dropped) == min(NEAR, only.sum())


def test_the_order_of_rows_does_not_change_what_is_shown() -> None:
    found = judged(400)
    turned = np.arange(400)[::-1]
    again = type(found)(found.policy, some(found.columns, turned))
    again.seen.sample.uids.reverse()
    mine = [[row.uid for row in edge.dropped] for edge in found.gallery.edges]
    assert mine == [[row.uid for row in edge.dropped] for edge in edges_of(found.policy, again.seen, found.cube)]


def test_rows_that_change_first_are_those_that_another_threshold_moves() -> None:
    found = judged(800)
    for edge in found.gallery.edges:
        if not (edge.stricter or edge.looser):
            continue
        rule = next(each for each in found.policy.filters if each.reason == edge.reason)
        stops, now = found.cube.stops[edge.reason], found.cube.current[edge.reason]
        at = {name.hex(): number for number, name in enumerate(found.uids)}
        for rows, stop, keeps in ((edge.stricter, now + 1, False), (edge.looser, now - 1, True)):
            if rows:
                verdicts = moved(rule, stops[stop]).keep(found.columns)
                assert all(bool(verdicts[at[row.uid]]) is keeps for row in rows) and len(rows) <= CHANGING
    assert any(edge.stricter for edge in found.gallery.edges) and any(edge.looser for edge in found.gallery.edges)


def test_what_a_list_of_words_hits_is_counted_and_never_shown() -> None:
    found = judged_captions(["A fucking dog", "fuck", "red", "Logo"])
    assert found.funnel.total("offensive") == 2
    shown = [row.caption for edge in found.gallery.edges for row in (*edge.dropped, *edge.kept, *edge.deep)]
    assert shown and not [caption for caption in shown if "fuck" in caption]


def test_large_sources_are_sampled_by_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    uids = [uid(number) for number in range(2000)]
    assert len(chosen_of(uids, 2000)) == 2000
    monkeypatch.setattr(survey_module, "ROWS_LOOKED_AT", 200)
    few = chosen_of(uids, 2000)
    assert 120 < len(few) < 290
    # The same rows are chosen wherever the list is cut.
    parts = [*chosen_of(uids[:700], 2000), *(700 + chosen_of(uids[700:], 2000))]
    assert list(few) == parts
    array = pa.array(uids, pa.binary(16))
    assert list(chosen_of(array.slice(700), 2000)) == list(chosen_of(uids[700:], 2000))


def test_of_many_parts_a_few_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Part(key=f"{n:06d}", input_digest="d", ledger=Ledger(listed=100, kept=100), files={}) for n in range(50)]
    assert len(parts_of(parts)) == 50
    monkeypatch.setattr(survey_module, "ROWS_LOOKED_AT", 450)
    few = parts_of(parts)
    assert len(few) == 5 and few == parts_of(parts[::-1]) and few != {part.key for part in parts[:5]}


def test_every_row_is_counted_under_one_language() -> None:
    found = judged(500)
    assert set(found.languages) == {"de", "en", "unknown", "zh"}
    pooled: dict[int, int] = {}
    for masks in found.languages.values():
        for mask, rows in masks.items():
            pooled[mask] = pooled.get(mask, 0) + rows
    assert pooled == found.funnel.masks


def test_hashes_differ_by_name_and_spread() -> None:
    uids = [uid(number) for number in range(4000)]
    one, other = hashes(uids, "length_units"), hashes(uids, "gibberish")
    assert len(set(one.tolist())) == 4000 and not (one == other).any()
    assert abs(float((one >> np.uint64(63)).mean()) - 0.5) < 0.05
    assert abs(float(np.corrcoef(one.astype(float), other.astype(float))[0, 1])) < 0.06


@pytest.mark.parametrize("unsafe", [None, 0.51, float("nan"), 1.0])
def test_pictures_not_known_to_be_safe_are_pixelated_before_they_are_embedded(unsafe: float | None) -> None:
    made = thumbnail(picture(), unsafe)
    assert made is not None and made.pixelated
    pixels = np.asarray(Image.open(io.BytesIO(made.jpg)).convert("L"), dtype=float)
    block = pixels.shape[0] // BLOCKS
    # Inside a block nothing of the noise is left but what JPEG adds.
    inside = pixels[block // 4 : 3 * block // 4, block // 4 : 3 * block // 4]
    assert inside.std() < 6


def test_safe_pictures_are_small_and_hold_nothing_but_the_picture() -> None:
    made = thumbnail(picture(600), 0.5)
    assert made is not None and not made.pixelated and len(made.jpg) <= MOST_BYTES
    image = Image.open(io.BytesIO(made.jpg))
    assert max(image.size) <= SIDE and b"Exif" not in made.jpg and b"script" not in made.jpg
    assert not image.getexif() and np.asarray(image).std() > 5
    assert thumbnail(picture(600), 0.5) == made


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"<svg onload=alert(1)>", picture()[:200]])
def test_what_is_no_picture_is_left_out(data: bytes) -> None:
    assert thumbnail(data, 0.0) is None


def test_a_picture_of_other_colours_and_shapes_is_taken() -> None:
    for mode, size in (("RGBA", (5, 900)), ("P", (300, 1)), ("L", (1, 1)), ("I;16", (20, 20))):
        out = io.BytesIO()
        Image.new(mode, size).save(out, "PNG")
        assert thumbnail(out.getvalue(), 0.0) is not None


@given(st.integers(0, 10**6), st.integers(0, 50), st.integers(0, 60))
@settings(max_examples=80, deadline=None)
def test_the_first_rows_are_those_of_a_whole_sort(seed: int, size: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    keys = (rng.random(100) < 0.5, rng.integers(0, 4, 100).astype(np.float64), rng.permutation(100).astype(np.uint64))
    rows = rng.choice(100, size, replace=False)
    wanted = sorted(rows.tolist(), key=lambda row: tuple(key[row] for key in keys))
    assert first_of(rows, keys, most).tolist() == wanted[:most]
