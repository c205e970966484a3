"""Each rule at its edges: just below the threshold, exactly on it, never scored; policies and their funnel."""

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import verdicts
from filters.base import Filter
from filters.bits import BITS, reasons_of
from filters.funnel import _EDGES, HISTOGRAM_BINS, Funnel, _histogram, judge
from filters.policies import EXEMPT, FILTERS, Policy, caption_quality, clean
from filters.verdicts import give

NUMERIC: list[tuple[Filter, list[float], list[bool]]] = [
    (
        FILTERS["clip_similarity"].model_validate({"min_similarity": 0.28}),
        [0.2799, 0.28, np.nan, np.inf, -np.inf],
        [False, True, False, False, False],
    ),
    (
        FILTERS["watermark"].model_validate({"max_probability": 0.8}),
        [0.8001, 0.8, np.nan, np.inf, -np.inf],
        [False] + [True] * 4,
    ),
    (FILTERS["unsafe"].model_validate({"max_probability": 0.5}), [0.5001, 0.5, np.nan], [False, True, True]),
    (FILTERS["aesthetic"].model_validate({"min_score": 2}), [1.999, 2, np.nan], [False, True, True]),
    (FILTERS["min_side"].model_validate({"min_pixels": 64}), [63, 64, np.nan], [False, True, True]),
    (FILTERS["aspect"].model_validate({"max_ratio": 5}), [5.01, 5, np.nan], [False, True, True]),
    (FILTERS["image_bytes"].model_validate({"min_bytes": 2048}), [2047, 2048, np.nan], [False, True, True]),
    (FILTERS["duplicates"].model_validate({"max_rows": 10}), [11, 10, np.nan], [False, True, True]),
    (FILTERS["eval_overlap"].model_validate({"max_similarity": 0.95}), [0.951, 0.95, np.nan], [False, True, True]),
    (FILTERS["caption_frequency"].model_validate({"max_rows": 10}), [11, 10, np.nan], [False, True, True]),
]


@pytest.mark.parametrize(("rule", "values", "kept"), NUMERIC, ids=lambda case: getattr(case, "reason", ""))
def test_below_on_and_never_scored(rule: Filter, values: list[float], kept: list[bool]) -> None:
    columns = {rule.reads[0]: np.array(values, dtype=np.float32)}
    assert rule.keep(columns).tolist() == kept
    assert rule.unknown(columns).tolist() == [False, False, *[True] * (len(values) - 2)]


GOOD = [
    "A picture of two red circles to the left of a blue moon.",
    "An old man is sitting on a bench in the park with his dog.",
    "Auf dem Bild sind drei gelbe Kreuze rechts von einem blauen Ring.",
    "Un chat noir dort sur le canapé dans le salon.",
    "Una mujer con un sombrero rojo camina por la playa.",
    "图片里有三个黄色的十字在一个蓝色的圆环的右边。",
    "公園のベンチに座っている老人と犬の写真です。",
    "Собака бежит по снегу в зимнем лесу на рассвете.",
    "Visitors can click here and there through the old town on a map.",
    "A view of Scunthorpe station in the early morning light.",
    'He wrote "I <3 you" on the wall of the house in red paint.',
    "Rindfleischetikettierungsüberwachungsaufgabe steht auf dem Schild über der Tür.",
]
CAPTIONS = [
    *GOOD,
    *(
        example
        for rule in FILTERS.values()
        if rule.reads == ("caption",)
        for example in (*rule.examples.dropped, *rule.examples.kept)
        if example
    ),
]


def sample_columns(size: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    captions = [str(rng.choice(CAPTIONS)) for _ in range(size)]
    numbers = {
        name: np.where(rng.random(size) < 0.1, np.nan, rng.random(size) * 20).astype(np.float32)
        for name in {column for rule in FILTERS.values() for column in rule.reads} - {"caption", "language"}
    }
    return {
        "caption": pa.array(captions),
        "language": pa.array([str(rng.choice(["en", "de"])) for _ in captions]),
        **numbers,
    }


def part(columns: dict[str, Any], rows: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {k: v.take(pa.array(rows)) if isinstance(v, pa.Array) else v[rows] for k, v in columns.items()}


@pytest.mark.parametrize("seed", range(3))
def test_masks_do_not_depend_on_order_or_batches_and_funnels_add_up(seed: int) -> None:
    rules = [each() for each in FILTERS.values()]
    columns = sample_columns(200, seed)
    masks, whole = judge(rules, columns, 200)
    order = np.random.default_rng(seed).permutation(200)
    shuffled, _ = judge(list(reversed(rules)), part(columns, order), 200)
    assert (shuffled == masks[order]).all()
    first, second = np.arange(0, 70), np.arange(70, 200)
    pieces = [judge(rules, part(columns, rows), len(rows))[1] for rows in (first, second)]
    assert Funnel() + pieces[0] + pieces[1] == whole == pieces[1] + pieces[0] + Funnel()
    assert whole.samples == 200
    names = [rule.reason for rule in rules]
    for name in names:
        assert whole.alone(name) <= whole.first(name, names) <= whole.total(name)
        assert whole.total(name) == sum(bool(int(mask) >> BITS[name] & 1) for mask in masks)
    assert sum(whole.first(name, names) for name in names) == whole.samples - whole.kept
    assert Funnel.model_validate_json(whole.model_dump_json()) == whole


def test_no_rows_is_a_funnel_of_zero() -> None:
    masks, funnel = judge(clean().filters, {}, 0)
    assert len(masks) == 0 and funnel.samples == 0 and funnel.kept == 0


@pytest.mark.parametrize("policy", [clean(), caption_quality("laion_en"), caption_quality("cc3m")])
def test_a_policy_survives_json(policy: Policy) -> None:
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert all(
        type(a) is type(b)
        for a, b in zip(policy.filters, Policy.model_validate_json(policy.model_dump_json()).filters, strict=True)
    )


def test_curated_sources_are_exempt_and_others_are_not() -> None:
    assert all(not caption_quality(source).filters for source in EXEMPT)
    assert caption_quality("my_own").filters


def test_unknown_and_repeated_rules_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no filter 'sparkle'"):
        Policy.model_validate({"name": "x", "filters": [{"kind": "sparkle"}]})
    with pytest.raises(ValueError, match="named twice"):
        Policy(name="x", filters=(FILTERS["gibberish"](), FILTERS["gibberish"]()))


def test_bits_are_distinct_and_every_filter_has_one() -> None:
    assert len(set(BITS.values())) == len(BITS) and set(FILTERS) == set(BITS)
    assert reasons_of(1 << BITS["unsafe"] | 1 << BITS["gibberish"]) == ["unsafe", "gibberish"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.none() | st.text(max_size=60) | st.sampled_from(CAPTIONS), min_size=1, max_size=30), st.randoms())
def test_a_mask_depends_on_its_row_alone(captions: list[str | None], random: random.Random) -> None:
    rules = [each() for each in FILTERS.values() if each.reads == ("caption",)]
    column = pa.array(captions, pa.string())
    whole = give(rules, {"caption": column}, len(captions)).reasons
    order = random.sample(range(len(captions)), len(captions))
    assert (give(rules, {"caption": column.take(pa.array(order))}, len(captions)).reasons == whole[order]).all()
    alone = [int(give(rules, {"caption": pa.array([text], pa.string())}, 1).reasons[0]) for text in captions]
    assert alone == whole.tolist()


def test_batches_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [each() for each in FILTERS.values()]
    columns = sample_columns(300, 0)
    whole = give(rules, columns, 300)
    monkeypatch.setattr(verdicts, "ROWS_AT_ONCE", 7)
    small = give(rules, columns, 300)
    assert (small.reasons == whole.reasons).all() and small.unknown == whole.unknown
    assert all(np.array_equal(small.measures[name], whole.measures[name], equal_nan=True) for name in whole.measures)


def test_a_missing_caption_is_taken_by_the_rules_on_length_and_by_no_other() -> None:
    rules = [each() for each in FILTERS.values() if each.reads == ("caption",)]
    for mask in give(rules, {"caption": pa.array([None, "", "  \n"], pa.string())}, 3).reasons:
        assert reasons_of(int(mask)) == ["caption_length", "length_units"]


@pytest.mark.parametrize("reason", sorted(_EDGES))
def test_histograms_are_those_of_numpy_also_on_their_edges(reason: str) -> None:
    low, high = _EDGES[reason]
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    beyond = np.random.default_rng(0).uniform(low - 1, high + 1, 500)
    near = [edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf), beyond, [np.nan, np.inf, -np.inf]]
    measured = np.concatenate(near).astype(np.float32)
    reasons = np.where(np.arange(len(measured)) % 3, np.uint64(0), np.uint64(1 << 47))
    found = _histogram(FILTERS[reason](), measured, reasons)
    known, others = ~np.isnan(measured), reasons == 0
    inside = np.clip(measured, low, np.nextafter(high, low))
    for counts, rows in ((found.all, known), (found.others_keep, known & others)):
        assert counts == tuple(np.histogram(inside[rows], bins=HISTOGRAM_BINS, range=(low, high))[0])
