"""Which benchmark is measured, on which data, and how: all that decides one row of the results page."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from stages.evaluations.base import Examples, HasTraining
from stages.evaluations.data import open_examples
from stages.evaluations.data.dataset import Dataset
from stages.evaluations.registry import Benchmark, Format, ProtocolName, Row, benchmark
from stages.manifest import ManifestError


class Named(NamedTuple):
    """One way in which a benchmark is measured, by a name that no other has."""

    name: str
    benchmark: Benchmark
    row: Row


TRAINS: frozenset[ProtocolName] = frozenset({"linear_probe", "segmentation"})
"""Protocols that train a head on the training split before they measure."""


def named_rows(spec: Benchmark) -> Iterator[Named]:
    """Yield a benchmark's rows, each named by benchmark, protocol and language, and a number where those repeat."""
    seen: Counter[str] = Counter()
    for row in spec.rows:
        base = f"{spec.name}.{row.protocol}.{row.language}"
        seen[base] += 1
        yield Named(base if seen[base] == 1 else f"{base}.{seen[base]}", spec, row)


class Choice(BaseModel):
    """One row to measure, with nothing left open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str = Field(description="Its name.")
    own: Benchmark | None = Field(default=None, description="A user's own benchmark; one of the registry if null.")
    protocol: ProtocolName
    language: str = "en"
    settings: dict[str, Any] = Field(default_factory=dict, description="Of the protocol, whole.")
    place: str = Field(description="Where the data lies: a folder or a file.")
    format: Format | Literal["auto"] = "auto"
    limit: int | None = Field(default=None, ge=2, description="Only so many examples, chosen by a hash of their key.")
    data: str = Field(description="Digest of the examples when they were chosen; other data are refused.")
    training: str | None = Field(
        default=None, description="The same of those that a head is trained on, where the protocol trains one."
    )

    @property
    def spec(self) -> Benchmark:
        """Return the benchmark."""
        return self.own or benchmark(self.benchmark)

    def open(self, cache: Path | None = None) -> Dataset:
        """Open the data.

        Raises:
            ManifestError: It is gone, or is not what was chosen.
        """
        found = open_examples(
            self.spec, Path(self.place), self.format, limit=self.limit, language=self.language, cache=cache
        )
        self._check(self.data, found)
        if self.training is not None and isinstance(found, HasTraining):
            self._check(self.training, found.training())
        return found

    def _check(self, chosen: str, found: Examples) -> None:
        if found.digest != chosen:
            raise ManifestError(
                f"the data of {self.benchmark} in {self.place} are not what was chosen: their digest is "
                f"{found.digest[:12]} now and was {chosen[:12]}; run the command again to measure what is there"
            )
