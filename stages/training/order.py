"""Which sample stands at which place of training: a pure function of (seed, mixture, step).

Places count the samples of a run one after the other, step after step. No function here looks at
what was read before, so nothing has to be saved: the step is the position, for any number of
processes and data workers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.batches import generator_of
from stages.manifest import ManifestError
from stages.training.detours import Detour, position
from stages.training.shuffles import Ints, Shuffle, Whole, Windows, held

CYCLE = 1024
"""Places over which a mixture keeps its ratio exactly; a weight is rounded to this share of the whole."""


class Weight(BaseModel):
    """How much of a mixture comes from one artifact.

    A share of the places, how often its samples are repeated, or the square root of its samples times their repeats,
    by which the official training draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Artifact, such as conversations/web.")
    weight: float | None = Field(default=None, gt=0, description="Places it takes, relative to the others.")
    repeat: float | None = Field(
        default=None, gt=0, description="Times that its samples come while others come once."
    )

    square_root: float | None = Field(
        default=None, gt=0, description="Takes places by the square root of its samples, repeated so many times."
    )

    @property
    def measure(self) -> str:
        """Which of the three it gives."""
        return "weight" if self.weight is not None else "repeat" if self.repeat is not None else "square_root"

    @model_validator(mode="after")
    def _one_of_all(self) -> "Weight":
        if sum(each is not None for each in (self.weight, self.repeat, self.square_root)) != 1:
            raise ValueError(f"{self.name}: give either a weight, a repeat or a square_root")
        return self

    def of(self, samples: int) -> float:
        """Return its weight, given how many samples it has."""
        if self.square_root is not None:
            return float((self.square_root * samples) ** 0.5)
        return self.weight if self.weight is not None else (self.repeat or 0.0) * samples


@dataclass(frozen=True)
class Source:
    """Samples that are shuffled among themselves: rows from `first` on, in shards of these sizes."""

    name: str
    shards: tuple[int, ...]
    weight: float = 1.0
    first: int = 0

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(self.shards)


def check_weights(weights: Sequence[Weight], names: Sequence[str]) -> None:
    """Refuse weights of a mixture that do not name what is there, each once, all in the same measure.

    Raises:
        ManifestError: They do not.
    """
    told = [each.name for each in weights]
    if sorted(told) != sorted(names):
        raise ManifestError(
            f"the mixture names {', '.join(told) or 'nothing'} and the inputs are {', '.join(names)}; name each once"
        )
    if len({each.measure for each in weights}) > 1:
        measures = " and ".join(sorted({each.measure for each in weights}))
        raise ManifestError(f"the mixture of {', '.join(told)} gives {measures}; give all the same one")


class Order:
    """Which sample stands at each place.

    One source has its own order: an epoch is a permutation, the next follows without a gap. Several take turns: of
    every `CYCLE` places each has its share, in an order drawn for that cycle, and goes through its own epochs at its
    own pace.
    """

    def __init__(self, seed: int, sources: Sequence[Source], window: int = 0, detours: Sequence[Detour] = ()) -> None:
        """Settle who comes how often.

        Args:
            seed: Of the run.
            sources: Where samples come from, in the order of their rows.
            window: Shards whose samples are shuffled together; 0 shuffles all samples of a source.
            detours: Where the run went back and left data out, in the order in which that happened.

        Raises:
            ManifestError: There are no samples, or too small a share for one of several sources.
        """
        empty = [source.name for source in sources if not source.samples]
        if empty or not sources:
            raise ManifestError(
                f"there is nothing to train on: {', '.join(empty) or 'the data that was given'} holds no sample"
            )
        self.seed, self.sources, self.window, self.detours = seed, tuple(sources), window, tuple(detours)
        self.samples = sum(source.samples for source in sources)
        self._quotas = _quotas(sources)
        self._shuffles = [self._shuffle(source) for source in sources]
        self._cycles: dict[int, tuple[Ints, Ints]] = {}

    def _shuffle(self, source: Source) -> Shuffle:
        seed = self.seed if len(self.sources) == 1 else f"{self.seed}/{source.name}"
        if self.window and self.window < len(source.shards):
            return Windows(seed, source.shards, self.window)
        return Whole(seed, source.samples)

    def rows(self, step: int, global_batch_size: int) -> list[int]:
        """Return the sample numbers of a step's global batch."""
        return self.batch(position(self.detours, step), global_batch_size)

    def batch(self, number: int, global_batch_size: int) -> list[int]:
        """Return the sample numbers of a global batch, also of one that a detour leaves out."""
        first = number * global_batch_size
        return [self.row(place) for place in range(first, first + global_batch_size)]

    def row(self, place: int) -> int:
        """Return the sample number at a place."""
        source, number = self.turn(place)
        return self.sources[source].first + self._shuffles[source].row(number)

    def turn(self, place: int) -> tuple[int, int]:
        """Return which source is at a place, and how often it was before."""
        if len(self.sources) == 1:
            return 0, place
        cycle, at = divmod(place, CYCLE)
        turns, before = held(self._cycles, cycle, self._turns_of)
        source = int(turns[at])
        return source, cycle * int(self._quotas[source]) + int(before[at])

    def _turns_of(self, cycle: int) -> tuple[Ints, Ints]:
        """Return the source at each place of a cycle, and how often it was before in this cycle."""
        owners = np.repeat(np.arange(len(self.sources)), self._quotas)
        turns = generator_of(self.seed, "turns", cycle).permutation(owners)
        before = np.zeros(CYCLE, dtype=np.int64)
        for source in range(len(self.sources)):
            places = np.flatnonzero(turns == source)
            before[places] = np.arange(len(places))
        return turns, before

    def around(self, detours: Sequence[Detour]) -> "Order":
        """Return this order with detours."""
        return Order(self.seed, self.sources, self.window, detours)

    def described(self) -> dict[str, Any]:
        """Return all that decides the order as JSON, for the checkpoint and for `Order.read`."""
        told = {"seed": self.seed, "window": self.window, "sources": [asdict(source) for source in self.sources]}
        return told | ({"detours": [asdict(detour) for detour in self.detours]} if self.detours else {})

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Order":
        """Return the order that `described` told of."""
        sources = [Source(**{**each, "shards": tuple(each["shards"])}) for each in told["sources"]]
        return cls(told["seed"], sources, told["window"], [Detour(**each) for each in told.get("detours", ())])


def _quotas(sources: Sequence[Source]) -> Ints:
    """Return the places of each source in a cycle: largest remainders, so they add up."""
    weights = np.array([source.weight for source in sources])
    exact = CYCLE * weights / weights.sum()
    quotas: Ints = np.floor(exact).astype(np.int64)
    missing = CYCLE - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    for source, quota in zip(sources, quotas, strict=True):
        if not quota:
            raise ManifestError(
                f"{source.name} would get less than one of {CYCLE} places of the mixture; "
                "raise its weight or leave it out"
            )
    return quotas
