"""Spikes, tails and divergence of trainings made by hand."""

import math

import pytest

from stages.study.stability import diverged_at, norm_tail, spikes, stability


def history(losses: list[float], norms: list[float] | None = None) -> list[dict[str, float]]:
    """Return what a training leaves: what is not finite is absent, and its step was not taken."""
    found = []
    for number, loss in enumerate(losses):
        step = {"step": number + 1.0, "loss": loss, "grad_norm": norms[number] if norms else 1.0}
        if not math.isfinite(loss):
            step = {"step": number + 1.0, "skipped": 1.0}
        found.append(step)
    return found


def falling(steps: int = 100) -> list[float]:
    """Return a healthy loss: it falls and wobbles."""
    return [4.5 - 0.01 * step + 0.05 * math.sin(7 * step) for step in range(steps)]


def test_a_healthy_training_has_no_spikes() -> None:
    found = stability(history(falling()), warmup_steps=10)
    assert found.spikes == found.not_finite == 0 and found.largest_spike == 0 and found.diverged_at is None


def test_spikes_are_counted_and_measured_from_the_usual_loss() -> None:
    losses = falling()
    losses[60] += 2.0
    losses[80] += 3.0
    found = spikes(history(losses))
    assert [step for step, _ in found] == [61, 81]
    # The median of what came before lies above a falling loss, so a spike is a little less than what was added.
    assert found[0][1] == pytest.approx(2.0, abs=0.5) and found[1][1] == pytest.approx(3.0, abs=0.7)
    assert stability(history(losses), 10).largest_spike == max(size for _, size in found)


def test_a_spike_too_early_to_be_judged_is_none() -> None:
    losses = falling()
    losses[20] += 3.0
    assert not spikes(history(losses)), "fewer than 32 steps tell nothing"


def test_the_tail_leaves_out_the_warm_up_and_takes_a_norm_that_occurred() -> None:
    norms = [50.0] * 10 + [1.0] * 98 + [7.0, 9.0]
    assert norm_tail(history(falling(110), norms), warmup_steps=10) == 7.0
    assert norm_tail(history(falling(110), norms), warmup_steps=0) > 7.0
    assert norm_tail(history([math.nan] * 3), 0) == 1.0


def test_it_diverges_where_the_loss_stays_above_the_start() -> None:
    losses = falling(40) + [6.0] * 10
    assert diverged_at(history(losses)) == 39, "the first step from which the median of five is above"
    losses = falling(40)
    losses[2] = 9.0
    assert diverged_at(history(losses)) is None, "one noisy step is none"
    assert diverged_at(history([4.5] + [4.59] * 20)) is None, "the first batch has noise of its own"
    assert diverged_at(history([4.5] + [4.61] * 20)) == 2


def test_it_diverges_at_the_first_step_that_is_not_finite() -> None:
    losses = falling(40)
    losses[17] = math.inf
    found = stability(history(losses), 5)
    assert found.diverged_at == 18 and found.not_finite == 1
    losses[0] = math.nan
    assert diverged_at(history(losses)) == 1
