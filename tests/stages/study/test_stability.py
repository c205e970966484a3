"""Spikes, tails and failures of trainings made by hand."""

import math

import pytest

from stages.study.stability import end_loss, failed, norm_tail, spikes, stability

GUESSING = math.log(96)


def history(losses: list[float], norms: list[float] | None = None) -> list[dict[str, float]]:
    """Return what a training leaves: what is not finite is absent, and its step was not taken."""
    found = []
    for number, loss in enumerate(losses):
        step = {"step": number + 1.0, "loss": loss, "grad_norm": norms[number] if norms else 1.0}
        if not math.isfinite(loss):
            step = {"step": number + 1.0, "skipped": 1.0}
        found.append(step)
    return found


def falling(steps: int = 100, slope: float = 0.01) -> list[float]:
    """Return a healthy loss: it falls and wobbles."""
    return [4.9 - slope * step + 0.05 * math.sin(7 * step) for step in range(steps)]


def test_a_healthy_training_has_no_spikes() -> None:
    found = stability(history(falling()), 10, GUESSING)
    assert found.spikes == found.largest_spike == 0 and found.failure is None
    assert found.end_loss == pytest.approx(sum(falling()[-10:]) / 10)


def test_spikes_are_counted_and_measured_from_the_usual_loss() -> None:
    losses = falling()
    losses[60] += 2.0
    losses[80] += 3.0
    found = spikes(history(losses))
    assert [step for step, _ in found] == [61, 81]
    assert [size for _, size in found] == pytest.approx([2.0, 3.0], abs=0.15)
    assert stability(history(losses), 10, GUESSING).largest_spike == max(size for _, size in found)


def test_a_loss_that_steps_up_and_stays_is_one_spike() -> None:
    losses = [3.5 + 0.05 * math.sin(7 * step) + (step >= 60) for step in range(160)]
    assert [step for step, _ in spikes(history(losses))] == [61]


def test_a_spike_on_a_loss_that_falls_steeply_is_seen_and_the_fall_itself_is_none() -> None:
    losses = falling(slope=0.04)
    losses[70] += 0.7
    ((step, size),) = spikes(history(losses))
    assert step == 71 and size == pytest.approx(0.7, abs=0.15)
    bent = [1.0 + 4 * math.exp(-step / 15) + 0.05 * math.sin(7 * step) for step in range(120)]
    rising = [2.0 + 0.02 * step + 0.05 * math.sin(7 * step) for step in range(120)]
    assert not spikes(history(bent)) and not spikes(history(rising))


def test_a_spike_too_early_to_be_judged_is_none() -> None:
    losses = falling()
    losses[20] += 3.0
    assert not spikes(history(losses)), "fewer than 32 steps tell nothing"


def test_the_tail_leaves_out_the_warm_up_and_takes_a_norm_that_occurred() -> None:
    norms = [50.0] * 10 + [1.0] * 98 + [7.0, 9.0]
    assert norm_tail(history(falling(110), norms), warmup_steps=10) == 7.0
    assert norm_tail(history(falling(110), norms), warmup_steps=0) > 7.0
    assert norm_tail(history([math.nan] * 3), 0) == 1.0


@pytest.mark.parametrize("start", [4.89, 5.19])
def test_a_training_that_collapses_to_guessing_has_learned_nothing_wherever_it_began(start: float) -> None:
    found = failed(history([start] + [4.566] * 47), GUESSING)
    assert found is not None and (found.reason, found.step) == ("learned nothing", 48)
    high = failed(history([start] + [5.1] * 47), GUESSING)
    assert high is not None and high.reason == "learned nothing"


def test_a_training_that_falls_back_says_from_where() -> None:
    found = failed(history(falling(80) + [GUESSING] * 20), GUESSING)
    assert found is not None and found.reason == "fell back" and found.step == 83
    dip = falling(80) + [GUESSING] * 10 + [4.1] * 10
    assert failed(history(dip), GUESSING) is None, "it recovered"
    assert failed(history(falling(80) + [4.2] * 20), GUESSING) is None, "less than half the way"


def test_a_step_that_is_not_finite_is_a_failure() -> None:
    losses = falling(40)
    losses[17] = math.inf
    found = failed(history(losses), GUESSING)
    assert found is not None and (found.reason, found.step) == ("not finite", 18)
    assert end_loss(history([math.nan] * 9)) is None


def test_without_a_known_guess_the_first_loss_is_the_bar() -> None:
    assert failed(history([0.9] * 40), None) is not None
    assert failed(history([0.9] + [0.6] * 40), None) is None
