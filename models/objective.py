"""What a training loop asks of an objective, so that the size of a micro batch decides nothing.

An objective turns a batch into named losses. Most of its terms are means over rows or tokens; each
micro batch of each process contributes its share of the mean over the global batch. A *joint* objective
also contrasts every row with every other row of the global batch. Its work is cut in three, so that
`models.grad_cache` can give many micro batches the gradients of one large batch (arXiv:2101.06983):

    embed   weights, one micro batch      -> features
    joint   no weights, the whole batch   -> losses of the features, and what the rest must know
    rest    weights, one micro batch      -> terms that are means over rows
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.losses import processes

Named = Mapping[str, Tensor]
"""Tensors by name: a batch, features, or the units over which terms are means."""
SAMPLE_LOSS = "sample_loss"
"""What an objective calls each row's own loss, shape (rows,), detached; every other value is a scalar."""


class Objective(Protocol):
    """A module whose losses add up over micro batches."""

    def counts(self, batch: Named) -> dict[str, Tensor]:
        """Return over how many units (rows, labelled tokens) each term is a mean in this batch; uses no weights."""
        ...

    def __call__(self, batch: Named, totals: Named | None = None) -> dict[str, Tensor]:
        """Return scalars by name, of which `loss` is minimised, and perhaps `sample_loss`.

        Args:
            batch: Tensors whose first dimension is rows, on the device of the weights.
            totals: What `totals_of` returned for the whole step: a term is then the sum over this batch's
                units divided by the total, so that micro batches add up and processes average. Without
                it the batch is all that this process contributes to the step.
        """
        ...


@dataclass(frozen=True)
class Joint:
    """What the rows of the global batch mean to each other."""

    losses: dict[str, Tensor]
    """`loss` with gradient, meters, and perhaps `sample_loss`."""
    context: dict[str, Tensor] = field(default_factory=dict)
    """What `rest` needs to know about each row, such as the negatives mined for it: (rows, ...)."""


class JointObjective(nn.Module, ABC):
    """An objective over the whole global batch; every use of weights goes through calling it.

    Wrappers of a module (DDP, FSDP2) act when it is called. `joint` uses no weights and may be asked of the
    bare module.
    """

    @abstractmethod
    def counts(self, batch: Named) -> dict[str, Tensor]:
        """Return over how many units each term of `rest` is a mean in this batch; see `Objective`."""

    @abstractmethod
    def embed(self, batch: Named) -> dict[str, Tensor]:
        """Return features by row, (rows, ...), and learned scalars, with gradient; what is random is drawn here."""

    @abstractmethod
    def joint(self, features: Named) -> Joint:
        """Return this process's share of the losses over the global batch, and context for the rest.

        Args:
            features: What `embed` returned, all rows of this process. Others' come by `models.losses.gather`.
        """

    def rest(self, batch: Named, features: Named, context: Named, totals: Named | None) -> dict[str, Tensor]:
        """Return the terms that are means over rows or tokens; `loss` is their weighted sum. None by default."""
        return {}

    def forward(
        self,
        batch: Named,
        totals: Named | None = None,
        *,
        call: Literal["step", "embed", "rest"] = "step",
        context: Named | None = None,
        gradients: Named | None = None,
    ) -> dict[str, Tensor]:
        """Do all at once, or a part.

        Args:
            batch: Rows of this process.
            totals: See `Objective`.
            call: `step` returns all losses of a batch that is all of this process's rows; `embed` the features
                alone; `rest` replays a micro batch: the value of its `loss` is that of `rest`, its gradient
                also carries `gradients` through the features.
            context: With `rest`: what `joint` said about these rows.
            gradients: With `rest`: of the joint loss by these features.
        """
        features = self.embed(batch)
        if call == "embed":
            return features
        if call == "step":
            joint = self.joint(features)
            return added(joint.losses, self.rest(batch, features, joint.context, totals))
        rest = self.rest(batch, features, context or {}, totals)
        carried = sum(
            ((features[name] * gradient).sum() for name, gradient in (gradients or {}).items()),
            start=torch.zeros((), device=next(iter(features.values())).device),
        )
        return added(rest, {"loss": carried - carried.detach()})


def added(one: Named, other: Named) -> dict[str, Tensor]:
    """Return both, what both have added up."""
    whole = {**one, **other}
    whole.update({name: one[name] + other[name] for name in one if name in other})
    return whole


def totals_of(objective: Objective, micro_batches: Sequence[Named]) -> dict[str, Tensor]:
    """Return the units of each term in a step, divided by the number of processes.

    All processes must call it together, for their share of the same step.
    """
    counts: dict[str, Tensor] = {}
    for batch in micro_batches:
        counts = added(counts, objective.counts(batch))
    names = sorted(counts)
    if not names or processes() == 1:
        return counts
    whole = torch.stack([counts[name].double() for name in names])
    dist.all_reduce(whole)
    return dict(zip(names, (whole / processes()).float(), strict=True))
