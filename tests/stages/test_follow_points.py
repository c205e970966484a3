"""The page of a training that was measured while it went on: its states, and which of them is the best."""

from stages.follow_points import Point, page
from stages.ref import Ref

TRAINING = Ref(name="checkpoints/contrastive", version="t")
METRIC = "colours.zero_shot_classification.en.top1"


def point(step: int, **metrics: float) -> Point:
    checkpoint = Ref(name=TRAINING.name, version=f"t.step-{step:08d}")
    return Point(step=step, number=step, passed_over=0, checkpoint=checkpoint, metrics=metrics)


def test_a_single_state_is_shown_as_a_point_of_each_metric() -> None:
    only = point(200, **{METRIC: 0.31, "loss": 2.0})
    drawn = page(TRAINING, [only], only, None)
    assert "1 state was measured; the latest, of step 200, is kept" in drawn
    assert drawn.count("<svg") == 2 == drawn.count(' dot"')


def test_the_page_says_which_state_is_the_best_and_draws_its_metric_first() -> None:
    points = [point(step, **{"aaa": 1.0, METRIC: value}) for step, value in ((50, 0.1), (100, 0.4), (150, 0.2))]
    drawn = page(TRAINING, points, points[1], METRIC)
    assert f"3 states were measured; the best by {METRIC} is that of step 100: 0.4" in drawn
    assert drawn.index("colours.zero") < drawn.index("<figcaption>aaa")
