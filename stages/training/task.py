"""What one training stage supplies to the loop."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from torch import nn

from models.learning_rates import decays
from models.renaming import State
from stages.training.balancing import Load

if TYPE_CHECKING:  # a machine that only trains has no parquet, and shards read it
    from stages.batches import ShardedSamples
    from stages.training.order import Source

Batch = dict[str, Any]
"""Tensors by name, on the CPU as they are made; nested dicts and lists are moved too."""
Metrics = dict[str, float]


def taken(history: Sequence[Metrics]) -> list[Metrics]:
    """Return what the steps measured that were not skipped: each has the same values, all finite."""
    return [measured for measured in history if "skipped" not in measured]


@dataclass
class Finished:
    """What a trained model leaves behind.

    Attributes:
        weights: By the names they are published under, on any device; each is asked for once and written.
        files: Small files beside them, name to bytes.
        metrics: Numbers for people.
    """

    weights: State
    files: dict[str, bytes] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


class SampleFacts(NamedTuple):
    """What a sample is known by."""

    uid: str
    source: str
    language: str | None

    @classmethod
    def of(cls, samples: "ShardedSamples", number: int) -> "SampleFacts":
        """Return what a sample of shards is known by: its key, and what its JSON tells."""
        told = samples.facts(number)
        language = told.get("language")
        return cls(samples.keys[number], str(told.get("source", "")), str(language) if language else None)


class BatchMaker(Protocol):
    """Makes batches from sample numbers; can be pickled and holds no model, so that data workers have a copy."""

    def __call__(self, rows: Sequence[int], step: int) -> Batch:
        """Return these samples as a batch: a pure function of rows and step."""
        ...

    def facts(self, row: int) -> SampleFacts:
        """Return what a sample is known by."""
        ...


@runtime_checkable
class Weighing(Protocol):
    """What a `BatchMaker` offers in addition whose rows differ in what they take: they are shared out by it."""

    def load(self, row: int) -> Load:
        """Return what a row takes: the same on all processes, known without reading its picture."""
        ...


class Task(Protocol):
    """A model, its batches and what is left when it is trained."""

    @property
    def samples(self) -> "int | Sequence[Source]":
        """How many samples there are to train on; or where they come from, and how much from where."""
        ...

    @property
    def module(self) -> nn.Module:
        """The objective, called as `module(batch, totals)`; returns named scalars, of which `loss` is minimised."""
        ...

    @property
    def batches(self) -> BatchMaker:
        """Makes the micro batches of a step."""
        ...

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return parameter groups; `scale` in a group multiplies the learning rate."""
        ...

    def finish(self) -> Finished:
        """Measure the trained model and return it; called once, on the first process, in evaluation mode."""
        ...


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float, scale: Callable[[str], float] = lambda _: 1.0
) -> list[dict[str, Any]]:
    """Return groups of the trainable parameters: matrices decay, vectors and tokens do not; `scale` by name."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            groups.setdefault((scale(name), weight_decay if decays(name, parameter) else 0.0), []).append(parameter)
    return [{"params": found, "scale": s, "weight_decay": w} for (s, w), found in sorted(groups.items())]
