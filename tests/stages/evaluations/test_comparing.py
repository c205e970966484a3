"""Two evaluations on equal examples: differences, intervals and p by hand, and what cannot be compared."""

from pathlib import Path

import numpy as np
import pytest
from measured_worlds import chosen, colours, make_towers, measured, paint

from infra.storage import Store
from stages.evaluation_metrics import REMEMBERED, RESAMPLES, measure, ratio_measure, resampled_means
from stages.evaluations.base import GROUP, Outcome, numbered
from stages.evaluations.choice import Choice
from stages.evaluations.comparing import compare
from stages.evaluations.pairing import paired_interval
from stages.evaluations.results import publish
from stages.manifest import Manifest, ManifestError
from stages.ref import Ref
from stages.workspace import Output

ROW = "colours.zero_shot_classification.en"


def evaluation(
    store: Store,
    version: str,
    hits: dict[str, float],
    data: str = "d" * 64,
    groups: list[str] | None = None,
    **more: object,
) -> Manifest:
    """Return an evaluation of one row with these hits by key."""
    choice = Choice(
        benchmark="colours", own=colours(), place="/data", data=data,
        **({"protocol": "zero_shot_classification"} | more),  # type: ignore[arg-type]
    )  # fmt: skip
    identity = {"parameters": {"rows": {ROW: choice.model_dump(mode="json")}}, "version": version}
    output = Output(store, Ref(name="benchmarks/contrastive", version=version), "benchmark", identity)
    values = list(hits.values())
    outcome = Outcome(
        measures=[measure("colours", "en", "top1", values), measure("colours", "en", "mean_class_recall", values)],
        scores={"top1": values} | ({GROUP: numbered(groups)} if groups else {}),
        keys=list(hits),
    )
    return output.commit([publish(output, ROW, choice, outcome, len(hits), {})])


def test_a_comparison_by_hand(store: Store) -> None:
    # d is better on three of five common examples and worse on none; f and g were seen by one alone.
    one = evaluation(store, "one", {"a": 0, "b": 0, "c": 0, "d": 1, "e": 0, "f": 1})
    two = evaluation(store, "two", {"g": 0, "e": 0, "d": 1, "c": 1, "b": 1, "a": 1})
    found = compare(store, one, two)
    first, other = found.differences
    assert (first.measure, first.n, first.first, first.second) == ("top1", 5, 0.2, 0.8)
    assert first.value == pytest.approx(0.6)
    assert first.p == 2 / 8  # of the 8 ways to sign three differences two lie as far out
    drawn = np.random.default_rng(0).choice([1, 1, 1, 0, 0], (20_000, 5)).mean(axis=1)
    assert (first.low, first.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=1e-9)
    assert (other.measure, other.low, other.p) == ("mean_class_recall", None, None)
    assert other.value == pytest.approx(4 / 6 * 0 + 4 / 6 - 2 / 6)
    assert found.refused == {}
    back = compare(store, two, one).differences[0]
    assert (back.value, back.p) == (pytest.approx(-0.6), 2 / 8)
    assert (back.low, back.high) == (pytest.approx(-first.high), pytest.approx(-first.low))  # type: ignore[operator]


def test_examples_that_show_one_picture_are_drawn_and_signed_together(store: Store) -> None:
    rng = np.random.default_rng(7)
    before, after = (rng.integers(0, 2, 20).astype(float) for _ in range(2))
    single, grouped = (
        compare(
            store,
            evaluation(store, f"one{times}", dict(zip(keys, np.repeat(before, times), strict=True)), groups=pictures),
            evaluation(store, f"two{times}", dict(zip(keys, np.repeat(after, times), strict=True)), groups=pictures),
        ).differences[0]
        for times, keys, pictures in (
            (1, list(map(str, range(20))), None),
            (2, list(map(str, range(40))), [str(number // 2) for number in range(40)]),
        )
    )
    # The second question of each picture is answered as the first: nothing is surer than before.
    assert grouped.n == 40 and grouped.p == single.p
    assert (grouped.value, grouped.low, grouped.high) == pytest.approx((single.value, single.low, single.high))
    assert paired_interval(np.zeros(4), ["a", "a", "b", "b"]) == paired_interval(np.zeros(2))


def test_a_model_beside_itself_is_no_different(store: Store) -> None:
    made = evaluation(store, "one", {"a": 0, "b": 1, "c": 1})
    found = compare(store, made, made).differences[0]
    assert (found.value, found.p) == (0, 1)
    # Three equal answers can hide an example in so many that differs.
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 3)) and found.low == -found.high


def test_many_samples_are_resampled_in_blocks_alike() -> None:
    n = REMEMBERED + 1
    values = (np.arange(n) % 3 == 0).astype(float)
    means = resampled_means(values)
    assert means.shape == (RESAMPLES,) and means.mean() == pytest.approx(1 / 3, abs=0.001)
    assert means.std() == pytest.approx(np.sqrt(2 / 9 / n), rel=0.1)
    assert (means == resampled_means(values)).all()


def segmented(store: Store, version: str, intersections: list[list[float]], unions: list[list[float]]) -> Manifest:
    """Return an evaluation of one row whose measure is the mean over two classes of ratios of sums."""
    choice = Choice(benchmark="colours", own=colours(), protocol="segmentation", place="/data", data="d" * 64)
    identity = {"parameters": {"rows": {ROW: choice.model_dump(mode="json")}}, "version": version}
    output = Output(store, Ref(name="benchmarks/contrastive", version=version), "benchmark", identity)
    same, union = np.array(intersections), np.array(unions)
    outcome = Outcome(
        measures=[ratio_measure("colours", "en", "miou", same, union)],
        scores={f"{name}{n}": table[:, n].tolist() for name, table in (("i", same), ("u", union)) for n in (0, 1)},
        ratios={"miou": [("i0", "u0"), ("i1", "u1")]},
        keys=[str(number) for number in range(len(same))],
    )
    return output.commit([publish(output, ROW, choice, outcome, len(same), {})])


def test_a_mean_of_ratios_is_compared_on_drawn_pictures(store: Store) -> None:
    rng = np.random.default_rng(2)
    union = rng.integers(50, 100, (30, 2)).astype(float)
    before, after = union * rng.uniform(0.2, 0.6, (30, 2)), union * rng.uniform(0.4, 0.7, (30, 2))
    (found,) = compare(
        store,
        segmented(store, "one", before.tolist(), union.tolist()),
        segmented(store, "two", after.tolist(), union.tolist()),
    ).differences
    ratio = after.sum(axis=0) / union.sum(axis=0) - before.sum(axis=0) / union.sum(axis=0)
    assert (found.measure, found.n, found.value) == ("miou", 30, pytest.approx(ratio.mean()))
    assert found.low is not None and found.high is not None and found.low < found.value < found.high
    assert found.p is not None and found.p < 0.01, "after is better in nearly every picture"


def test_other_data_and_other_ways_are_refused_with_the_reason(store: Store) -> None:
    one = evaluation(store, "one", {"a": 0, "b": 1})
    for version, more, words in (
        (
            "data",
            {"data": "e" * 64, "limit": 9},
            "the data differ: /data (dddddddddddd) and /data (eeeeeeeeeeee), lim",
        ),
        ("taught", {"training": "f" * 64}, "their heads learned from other data: nothing and ffffffffffff"),
        (
            "protocol",
            {"protocol": "captioning"},
            "measured by other protocols: zero_shot_classification and captioning",
        ),
        ("ways", {"settings": {"queries": True}}, "it was measured in other ways: queries None and True"),
    ):
        other = evaluation(store, version, {"a": 0, "b": 1}, **more)  # type: ignore[arg-type]
        with pytest.raises(ManifestError) as caught:
            compare(store, one, other)
        assert words in str(caught.value) and "measure both on the same data: internvl evaluate" in str(caught.value)


def test_real_evaluations_are_compared_row_by_row(store: Store, tmp_path: Path) -> None:
    place = paint(tmp_path / "data", 3)
    first, second = (make_towers(store, version=name, seed=seed) for name, seed in (("a", 1), ("b", 2)))
    one = measured(store, tmp_path, first, chosen(place, colours(), colours("paints")), "a")
    two = measured(store, tmp_path, second, chosen(place, colours()), "b")
    found = compare(store, one, two)
    top = next(each for each in found.differences if each.measure == "top1")
    assert top.n == 12 and top.low is not None and top.high is not None and top.low <= top.value <= top.high
    key = "colours.zero_shot_classification.en.top1"
    assert top.value == pytest.approx(two.totals[key] - one.totals[key], abs=2e-4)
    assert found.refused == {"paints.zero_shot_classification.en": "only benchmarks/contrastive@a was measured on it"}


def test_scores_that_do_not_fit_the_examples_are_a_fault(store: Store) -> None:
    choice = Choice(benchmark="x", own=colours("x"), protocol="retrieval", place="/data", data="d" * 64)
    output = Output(store, Ref(name="benchmarks/contrastive", version="t"), "benchmark", {})
    outcome = Outcome(measures=[measure("x", "en", "top1", [1.0])], scores={"top1": [1.0, 0.0]}, keys=["a"])
    with pytest.raises(ValueError, match="top1 has 2 scores for 1 examples"):
        publish(output, "x.retrieval.en", choice, outcome, 1, {})
