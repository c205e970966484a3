"""Videos: which frames count for how much, and the switches of both protocols."""

from typing import Any

import numpy as np
import pytest
from worlds import ColourJudge, FakeSubject, ListedExamples, plain, tiny_judge

from stages.evaluations import video_classification, video_retrieval
from stages.evaluations.base import Outcome
from stages.evaluations.embedding import picture_vectors, unit


def measured(outcome: Outcome) -> dict[str, float]:
    return {measure.name: measure.value for measure in outcome.measures}


def videos() -> ListedExamples:
    """Return two videos whose middle frame is not what most of them is about."""
    first = [plain(colour) for colour in ("red",) * 4 + ("blue",) * 1 + ("red",) * 4]
    second = [plain(colour) for colour in ("blue",) * 4 + ("red",) * 1 + ("blue",) * 4]
    return ListedExamples([first, second], classes=("red", "blue"), labels=[0, 1], said=[["all red"], ["all blue"]])


def test_eight_frames_see_what_one_does_not() -> None:
    subject = FakeSubject(ColourJudge())
    for run, kind in (
        (video_classification.run, video_classification.Settings),
        (video_retrieval.run, video_retrieval.Settings),
    ):
        whole = run(subject, videos(), kind(), "videos").measures  # type: ignore[operator]
        middle = run(subject, videos(), kind(frames=1), "videos").measures  # type: ignore[operator]
        assert whole[0].value == 1.0 and middle[0].value < 1.0


@pytest.mark.parametrize("queries", [False, True])
def test_frames_count_as_long_as_the_model_makes_them(queries: bool) -> None:
    judge = tiny_judge(generative=True, batch_size=4)
    examples = ListedExamples([[plain("red"), plain("blue", noise=1)], [plain("green", noise=2)], videos().shown[0]])
    subject = FakeSubject(judge)
    found = picture_vectors(subject, examples, crop=False, queries=queries, frames=8)
    same = picture_vectors(subject, examples, crop=False, queries=queries, frames=8, unit_frames=True)
    assert subject.made == 2
    seen = judge.see([*examples.shown[0]])
    pair = judge.picture_vectors(seen, queries=queries, unit=False)
    assert found[0] == pytest.approx(unit(pair.mean(axis=0)), abs=1e-6)
    assert same[0] == pytest.approx(unit(unit(pair).mean(axis=0)), abs=1e-6)
    assert judge.picture_vectors(seen, queries=queries) == pytest.approx(unit(pair), abs=1e-6)
    assert np.abs(found[0] - same[0]).max() > 1e-7
    # One frame has one direction, however long it is.
    assert found[1] == pytest.approx(same[1], abs=1e-7)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)


def test_both_views_add_up_to_at_most_two() -> None:
    judge = tiny_judge(generative=True)
    lengths = np.linalg.norm(judge.picture_vectors(judge.see([plain("red")]), queries=True, unit=False), axis=1)
    assert 0 < lengths[0] <= 2


def test_kinetics_reports_top_1_and_its_mean_with_top_5() -> None:
    names = tuple("abcdefg")
    examples = ListedExamples(
        [[plain("red", noise=number)] for number in range(14)], names, [number % 7 for number in range(14)]
    )
    subject = FakeSubject(tiny_judge())
    values = measured(video_classification.run(subject, examples, video_classification.Settings(), "kinetics_400"))
    assert list(values)[:3] == ["top1", "top5", "top1_top5_mean"]
    settings = video_classification.Settings(metric="top1_top5_mean")
    found = video_classification.run(subject, examples, settings, "kinetics_400")
    assert found.measures[0].name == "top1_top5_mean" and measured(found) == values
    assert values["top1_top5_mean"] == pytest.approx((values["top1"] + values["top5"]) / 2)
    assert found.measures[0].chance == pytest.approx((1 / 7 + 5 / 7) / 2)
    assert "these are ours" in found.notes[-1]
    own = video_classification.Settings(templates=("{c}",))
    assert not any("are ours" in note for note in video_classification.run(subject, examples, own, "x").notes)


def test_dual_softmax_is_on_as_in_the_released_script_and_a_switch() -> None:
    subject = FakeSubject(ColourJudge())
    found = video_retrieval.run(subject, videos(), video_retrieval.Settings(), "msr_vtt")
    assert found.facts["dual_softmax"] is True and "all queries at once" in found.notes[-1]
    off = video_retrieval.run(subject, videos(), video_retrieval.Settings(dual_softmax=False), "msr_vtt")
    assert (
        off.facts["dual_softmax"] is False
        and len(off.notes) == 1
        and "squashed to a square: that is assumed" in off.notes[0]
    )
    assert {"recall_at_1_video_to_text", "recall_at_10_text_to_video", "mean_recall"} <= set(measured(off))


def test_whether_frames_are_cut_is_a_setting_and_is_told() -> None:
    examples = ListedExamples([[plain("blue")], [plain("green")]], said=[["all blue"], ["all green"]])
    for crop, word in ((False, "squashed"), (True, "cut to their middle")):
        judge = tiny_judge()
        seen: list[bool] = []
        see = judge.see

        def told(pictures: Any, *, crop: bool = False, see: Any = see, seen: list[bool] = seen) -> Any:
            seen.append(crop)
            return see(pictures, crop=crop)

        judge.see = told  # type: ignore[method-assign]
        found = video_retrieval.run(FakeSubject(judge), examples, video_retrieval.Settings(crop=crop), "videos")
        assert seen == [crop] and word in found.notes[0]
