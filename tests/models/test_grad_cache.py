"""One, two or three micro batches, one or two processes: one loss and one gradient."""

from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.grad_cache import accumulate
from models.objective import Joint, JointObjective, Named, totals_of

ROWS, WIDTH = 6, 5


class Towers(JointObjective):
    """Two layers whose outputs are contrasted; a third, which judges each row by what the contrast said of it."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other, self.judge = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4), nn.Linear(4, 1)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.dropout = dropout
        self.double()

    def counts(self, batch: Named) -> dict[str, Tensor]:
        return {"judged": batch["weight"].sum()}

    def embed(self, batch: Named) -> dict[str, Tensor]:
        one = F.dropout(self.one(batch["one"]), self.dropout, self.training)
        return {"one": one, "other": self.other(batch["other"]), "scale": self.scale.exp(), "uid": batch["uid"]}

    def joint(self, features: Named) -> Joint:
        logits = features["scale"] * features["one"] @ features["other"].T
        rows = F.cross_entropy(logits, torch.arange(len(logits)), reduction="none")
        context = {"harder": logits.detach().fill_diagonal_(-torch.inf).argmax(dim=1) + 10 * features["uid"]}
        return Joint({"loss": rows.mean(), "contrast": rows.mean(), "sample_loss": rows.detach()}, context)

    def rest(self, batch: Named, features: Named, context: Named, totals: Named | None) -> dict[str, Tensor]:
        wrong = (self.judge(features["one"])[:, 0] - context["harder"]) ** 2 * batch["weight"]
        judged = wrong.sum() / (totals or self.counts(batch))["judged"]
        return {"loss": judged, "judged": judged, "sample_loss": wrong.detach()}


class Plain(nn.Module):
    """A mean over labelled units of unequal number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(WIDTH, 1).double()

    def counts(self, batch: Named) -> dict[str, Tensor]:
        return {"units": batch["weight"].sum()}

    def forward(self, batch: Named, totals: Named | None = None) -> dict[str, Tensor]:
        wrong = self.layer(batch["one"])[:, 0] ** 2 * batch["weight"]
        return {"loss": wrong.sum() / (totals or self.counts(batch))["units"], "sample_loss": wrong.detach()}


def micro_batches(sizes: Sequence[int]) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    batch = {
        "one": torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64),
        "other": torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64),
        "weight": torch.arange(1.0, ROWS + 1, dtype=torch.float64),
        "uid": torch.arange(ROWS),
    }
    cuts = {name: value.split(list(sizes)) for name, value in batch.items()}
    return [{name: pieces[number] for name, pieces in cuts.items()} for number in range(len(sizes))]


def step(module: nn.Module, sizes: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    pieces = micro_batches(sizes)
    totals = totals_of(module, pieces)
    losses = accumulate(module, pieces, totals, lambda loss: loss.backward(), nullcontext)
    return losses, {name: parameter.grad for name, parameter in module.named_parameters()}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.allclose(ours[name], theirs[name], rtol=1e-10, atol=1e-10) for name in ours
    )


@pytest.mark.parametrize("kind", [Towers, Plain])
@pytest.mark.parametrize("sizes", [[3, 3], [1, 2, 3], [1] * 6])
def test_micro_batches_decide_nothing(kind: type[nn.Module], sizes: list[int]) -> None:
    losses, gradients = step(kind(), [ROWS])
    cut_losses, cut_gradients = step(kind(), sizes)
    assert same(cut_losses, losses) and same(cut_gradients, gradients)
    assert losses["sample_loss"].shape == (ROWS,) and all(gradient.any() for gradient in gradients.values())


def test_without_totals_the_shares_of_micro_batches_are_wrong() -> None:
    module, pieces = Plain(), micro_batches([2, 4])
    wrong = accumulate(module, pieces, None, lambda loss: loss.backward(), nullcontext)
    assert not same({"loss": wrong["loss"]}, {"loss": step(Plain(), [ROWS])[0]["loss"]})
