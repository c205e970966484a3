"""What every filter is: a reason, the columns it reads, and a comparison."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Columns: TypeAlias = Mapping[str, Any]
"""Signals by name: numbers as float32 arrays with NaN for "not computed", text as `pyarrow.StringArray`."""

Mask: TypeAlias = npt.NDArray[np.bool_]


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

    kind: str = ""

    def model_post_init(self, context: Any, /) -> None:
        """Keep the reason in the serialised form, so that a policy can be read back."""
        object.__setattr__(self, "kind", self.reason)

    @abstractmethod
    def keep(self, columns: Columns) -> Mask:
        """Return one boolean per sample, shape (samples,)."""

    def measure(self, columns: Columns) -> npt.NDArray[np.float32] | None:
        """Return the number that is compared, shape (samples,), NaN where not computed; None without one."""
        return None

    def unknown(self, columns: Columns) -> Mask:
        """Return where the signal was not computed, shape (samples,)."""
        found = self.measure(columns)
        size = len(next(iter(columns.values())))
        return np.isnan(found) if found is not None else np.zeros(size, dtype=bool)


class AtLeast(Filter):
    """A filter that keeps what reaches a minimum."""

    unknown_is_kept: ClassVar[bool] = True

    def measure(self, columns: Columns) -> npt.NDArray[np.float32] | None:
        """Return the signal as it was computed."""
        return np.asarray(columns[self.reads[0]], dtype=np.float32)

    def keep(self, columns: Columns) -> Mask:
        """Keep samples whose measure is at least the threshold."""
        found = self.measure(columns)
        assert found is not None
        return np.asarray((found >= np.float32(getattr(self, self.threshold))) | self._lenient(found))

    def _lenient(self, found: npt.NDArray[np.float32]) -> Mask:
        return np.asarray(np.isnan(found) & self.unknown_is_kept)


class AtMost(AtLeast):
    """A filter that keeps what does not exceed a maximum."""

    def keep(self, columns: Columns) -> Mask:
        """Keep samples whose measure is at most the threshold."""
        found = self.measure(columns)
        assert found is not None
        return np.asarray((found <= np.float32(getattr(self, self.threshold))) | self._lenient(found))
