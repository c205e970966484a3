"""What every filter is: a reason, the columns it reads, and a comparison."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from filters.text.captions import Captions, captions_of

Columns: TypeAlias = Mapping[str, Any]
"""Signals by name: numbers as float32 arrays with NaN for "not computed", text as `pyarrow.StringArray`."""

Mask: TypeAlias = npt.NDArray[np.bool_]
Measure: TypeAlias = npt.NDArray[np.float32]


class Examples(NamedTuple):
    """What a filter with its default threshold drops and keeps; these are its tests and its documentation."""

    dropped: tuple[Any, ...]
    kept: tuple[Any, ...]


class Filter(BaseModel):
    """One reason to drop a sample.

    A filter only compares; signals are computed by the score stage. All filters of a policy see
    every row, so what one of them says never depends on the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    unit: ClassVar[str] = ""
    threshold: ClassVar[str] = ""
    """Name of the field that holds the threshold; empty for rules without a number."""
    origin: ClassVar[str] = ""
    """Where the default threshold comes from: who published it, or "ours" and why."""
    examples: ClassVar[Examples] = Examples((), ())

    kind: str = ""

    def model_post_init(self, context: Any, /) -> None:
        """Keep the reason in the serialised form, so that a policy can be read back."""
        object.__setattr__(self, "kind", self.reason)

    @abstractmethod
    def keep(self, columns: Columns) -> Mask:
        """Return one boolean per sample, shape (samples,)."""

    def measure(self, columns: Columns) -> Measure | None:
        """Return the number that is compared, shape (samples,), NaN where not computed; None without one."""
        return None

    def unknown(self, columns: Columns) -> Mask:
        """Return where the signal was not computed, shape (samples,)."""
        found = self.measure(columns)
        return np.isnan(found) if found is not None else np.zeros(len(columns[self.reads[0]]), dtype=bool)


class AtLeast(Filter):
    """A filter that keeps what reaches a minimum. Infinity is no measurement: it counts as not computed."""

    unknown_is_kept: ClassVar[bool] = True

    def measure(self, columns: Columns) -> Measure | None:
        """Return the signal as it was computed, NaN where it is not a finite number."""
        found = np.asarray(columns[self.reads[0]], dtype=np.float32)
        infinite = np.isinf(found)
        return np.where(infinite, np.float32(np.nan), found) if infinite.any() else found

    def keep(self, columns: Columns) -> Mask:
        """Keep samples whose measure is at least the threshold."""
        found = self.measure(columns)
        assert found is not None
        # NaN compares as false both ways, so each direction states what it does with it.
        if self.unknown_is_kept:
            return ~(found < self._limit)
        return np.asarray(found >= self._limit)

    @property
    def _limit(self) -> np.float32:
        return np.float32(getattr(self, self.threshold))


class AtMost(AtLeast):
    """A filter that keeps what does not exceed a maximum."""

    def keep(self, columns: Columns) -> Mask:
        """Keep samples whose measure is at most the threshold."""
        found = self.measure(columns)
        assert found is not None
        if self.unknown_is_kept:
            return ~(found > self._limit)
        return np.asarray(found <= self._limit)


class CaptionFilter(Filter):
    """A filter that reads the caption alone.

    A missing caption is judged as an empty one: the two rules on length drop it, and no other rule does,
    so that it is counted once.
    """

    reads: ClassVar[tuple[str, ...]] = ("caption",)

    @abstractmethod
    def passes(self, captions: Captions) -> Mask:
        """Return which captions are kept, shape (samples,)."""

    def measured(self, captions: Captions) -> Measure | None:
        """Return the number that is compared, shape (samples,); None without one."""
        return None

    def keep(self, columns: Columns) -> Mask:
        """Return one boolean per sample, shape (samples,)."""
        return self.passes(captions_of(columns))

    def measure(self, columns: Columns) -> Measure | None:
        """Return the number that is compared, shape (samples,); None without one."""
        return self.measured(captions_of(columns))

    def unknown(self, columns: Columns) -> Mask:
        """Captions are always there to be read."""
        return np.zeros(len(columns["caption"]), dtype=bool)
