"""The guard: what it lets pass, what it stops, and that its memory survives a restart."""

import json
import math
import random

import pytest

from stages.training.detours import position
from stages.training.guard import Act, Guard, GuardPolicy
from stages.training.order import Order, Source


def healthy(seed: int, steps: int) -> list[tuple[float, float]]:
    """Loss and gradient norm of a noisy run that is well: a falling curve, norms with a heavy tail."""
    rng = random.Random(seed)
    return [
        (
            2 + 5 * math.exp(-step / 300) + rng.gauss(0, 0.15),
            math.exp(rng.gauss(0, 0.4)) * (1 + 3 * math.exp(-step / 99)),
        )
        for step in range(steps)
    ]


def warm(policy: GuardPolicy | None = None, steps: int = 60) -> Guard:
    guard = Guard(policy or GuardPolicy())
    rng = random.Random(1)
    for step in range(steps):
        assert guard.look(step, 2 + rng.gauss(0, 0.1), 1.0).act is Act.TAKE
    return guard


@pytest.mark.parametrize("seed", range(3))
def test_a_noisy_healthy_run_of_2000_steps_has_no_alarm(seed: int) -> None:
    guard = Guard(GuardPolicy())
    acts = [guard.look(step, *values).act for step, values in enumerate(healthy(seed, 2000))]
    assert set(acts) == {Act.TAKE}


def test_a_lower_threshold_does_alarm_on_the_same_run() -> None:
    guard = Guard(GuardPolicy(skip_sigma=2.0))
    acts = [guard.look(step, *values).act for step, values in enumerate(healthy(0, 2000))]
    assert Act.SKIP in acts


def test_a_slow_rise_is_no_spike_and_a_fast_fall_is_none() -> None:
    for slope in (0.01, -0.01):
        guard = Guard(GuardPolicy())
        rng = random.Random(0)
        values = [5 + slope * step + rng.gauss(0, 0.05) for step in range(400)]
        assert {guard.look(step, value, 1.0).act for step, value in enumerate(values)} == {Act.TAKE}


@pytest.mark.parametrize("loss, norm", [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])
def test_what_is_not_finite_is_skipped_from_the_first_step_on(loss: float, norm: float) -> None:
    guard = Guard(GuardPolicy())
    verdict = guard.look(0, loss, norm)
    assert verdict.act is Act.SKIP and ("nan" in verdict.reason or "inf" in verdict.reason)
    assert guard.look(1, 2.0, 1.0).act is Act.TAKE


def test_a_loss_a_hundredfold_is_skipped_and_does_not_shift_the_median() -> None:
    guard = warm()
    before = guard.state()["losses"]
    verdict = guard.look(60, 200.0, 1.0)
    assert verdict.act is Act.SKIP and "loss 200 is" in verdict.reason
    assert guard.state()["losses"] == before


def test_a_gradient_of_a_hundredfold_norm_is_skipped() -> None:
    verdict = warm().look(60, 2.0, 100.0)
    assert verdict.act is Act.SKIP and verdict.reason.startswith("gradient norm 100")


def test_with_few_steps_a_spike_has_no_verdict() -> None:
    guard = warm(steps=31)
    assert guard.look(31, 200.0, 1.0).act is Act.TAKE


def test_three_skips_among_fifty_go_back_to_before_the_first() -> None:
    guard = warm()
    for step in range(60, 100):
        verdict = guard.look(step, 200.0 if step in (62, 80, 99) else 2.0, 1.0)
    assert (verdict.act, verdict.first) == (Act.ROLL_BACK, 62)
    assert "63, 81, 100" in verdict.reason


def test_three_skips_far_apart_do_not() -> None:
    guard = warm()
    acts = [guard.look(step, 200.0 if step in (62, 90, 113) else 2.0, 1.0).act for step in range(60, 120)]
    assert acts.count(Act.SKIP) == 3 and Act.ROLL_BACK not in acts


def test_a_loss_that_stays_high_goes_back_where_nothing_is_skipped() -> None:
    guard = warm(GuardPolicy(skip_sigma=None))
    acts = [guard.look(step, 9.0, 1.0) for step in range(60, 80)]
    assert {each.act for each in acts[:-1]} == {Act.TAKE}
    assert (acts[-1].act, acts[-1].first) == (Act.ROLL_BACK, 60)


def go_back(guard: Guard, step: int, to: int) -> None:
    """Skip three times up to `step`, then go back."""
    saved = guard.state()
    for each in (step - 2, step - 1):
        assert guard.look(each, math.nan, 1.0).act is Act.SKIP
    assert guard.look(step, math.nan, 1.0).act is Act.ROLL_BACK
    guard.restore(saved, keep_detours=True)
    guard.rolled_back(step, to)


def test_twice_in_the_same_window_stops_and_later_goes_back_again() -> None:
    soon, late = warm(), warm()
    go_back(soon, 70, 60)
    go_back(late, 70, 60)
    for step in (75, 76):
        soon.look(step, math.nan, 1.0)
    assert soon.look(77, math.nan, 1.0).act is Act.STOP
    go_back(late, 70 + GuardPolicy().window + 3, 150)
    assert len(late.detours) == 2


def test_after_going_back_steps_read_data_that_none_has_seen() -> None:
    guard = warm()
    read = [guard.position(step) for step in range(71)]
    go_back(guard, 70, 60)
    again = [guard.position(step) for step in range(60, 261)]
    go_back(guard, 260, 50)
    last = [guard.position(step) for step in range(50, 300)]
    assert [guard.position(step) for step in range(50)] == read[:50]
    assert again == list(range(71, 272)) and last == list(range(272, 522))


def test_the_order_of_rows_follows_the_detours_alone() -> None:
    guard = warm()
    go_back(guard, 70, 60)
    plain = Order(3, [Source("samples", (1000,))])
    order = plain.around(guard.detours)
    assert order.rows(59, 4) == plain.rows(59, 4)
    assert order.rows(60, 4) == plain.rows(71, 4)
    assert Order.read(json.loads(json.dumps(order.described()))).rows(65, 4) == plain.rows(
        position(guard.detours, 65), 4
    )
    assert "detours" not in plain.described()


def test_its_memory_survives_a_restart_bit_for_bit() -> None:
    values = healthy(4, 300)
    values[200] = values[210] = (math.nan, 1.0)
    whole = Guard(GuardPolicy())
    verdicts = [whole.look(step, *each) for step, each in enumerate(values)]
    first, second = Guard(GuardPolicy()), Guard(GuardPolicy())
    halves = [first.look(step, *each) for step, each in enumerate(values[:205])]
    second.restore(json.loads(json.dumps(first.state())))
    halves += [second.look(step, *each) for step, each in enumerate(values[205:], 205)]
    assert halves == verdicts and second.state() == whole.state()
