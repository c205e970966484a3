"""StableAdamW is AdamW until an update is too large; the schedule rises, falls and rises again."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from stages.training.optimizer import StableAdamW, optimizer_of, set_rates
from stages.training.schedule import Schedule

SETTINGS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def walked(optimizer: type[torch.optim.Optimizer], sizes: list[float]) -> list[torch.Tensor]:
    """Return weights after steps whose gradients have these sizes."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (5,))]
    weights.append(torch.nn.Parameter(torch.ones(2)))  # never has a gradient
    stepper = optimizer(weights, **SETTINGS)  # type: ignore[call-arg]
    for size in sizes:
        for weight in weights[:2]:
            weight.grad = size * torch.randn(weight.shape, generator=generator).sign()
        stepper.step()
    assert set(stepper.state) == set(weights[:2]), "no state for what does not learn"
    return [weight.detach() for weight in weights]


def test_it_is_adamw_where_nothing_is_clipped() -> None:
    # Gradients that shrink: the second moment is never too small for them.
    sizes = [1.0, 0.9, 0.8, 0.6, 0.5, 0.3]
    for mine, theirs in zip(walked(StableAdamW, sizes), walked(torch.optim.AdamW, sizes), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-7)


def test_a_sudden_gradient_moves_the_weights_less() -> None:
    calm, sudden = [0.001] * 20, [0.001] * 20 + [1.0]

    def moved(optimizer: type[torch.optim.Optimizer]) -> float:
        before, after = walked(optimizer, calm)[0], walked(optimizer, sudden)[0]
        return float((after - before).abs().mean())

    # Algorithm 2 by hand: v = 0.05 / (1 - 0.95^21), so the update is divided by sqrt(1 / v).
    clip = ((1 - 0.95**21) / 0.05) ** 0.5
    assert moved(torch.optim.AdamW) / moved(StableAdamW) == pytest.approx(clip, rel=0.02)


def test_the_schedule_names_the_optimizer_and_the_rates() -> None:
    schedule = Schedule(global_batch_size=8, steps=4, learning_rate=0.1, optimizer="stable_adamw")
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "scale": 0.5, "weight_decay": 0.0}]
    optimizer = optimizer_of(groups, schedule)
    assert isinstance(optimizer, StableAdamW)
    set_rates(optimizer, 0.04)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
    adamw = optimizer_of(groups, schedule.model_copy(update={"optimizer": "adamw"}))
    assert isinstance(adamw, torch.optim.AdamW)


GOLDEN = [0.5, 1.0, 1.0, 0.965746, 0.868198, 0.361104, 0.55, 0.377792, 0.231802, 0.134254]
"""Two steps of warm-up, a cosine towards 0.1 over eight, and from the sixth on two steps of rising again."""


def test_golden_table_of_rates() -> None:
    schedule = Schedule(
        global_batch_size=8, steps=10, learning_rate=1, warmup_steps=2, final_ratio=0.1, rewarm_at=5, rewarm_steps=2
    )
    plain = schedule.model_copy(update={"rewarm_at": None, "rewarm_steps": 0})
    rates = [schedule.factor(step) for step in range(10)]
    assert rates == pytest.approx(GOLDEN, abs=1e-5)
    assert rates[5] == plain.factor(5) / 2
    assert rates[6:] == [plain.factor(step) for step in range(6, 10)], "back on the cosine"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rewarm_at": 5}, "belong together"),
        ({"rewarm_steps": 5}, "belong together"),
        ({"rewarm_at": 10, "rewarm_steps": 2}, "between the warm-up"),
        ({"rewarm_at": 1, "rewarm_steps": 2, "warmup_steps": 3}, "between the warm-up"),
    ],
)
def test_a_second_rise_lies_inside_the_run(given: dict[str, int], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Schedule(global_batch_size=8, steps=10, learning_rate=1, **given)  # type: ignore[arg-type]
