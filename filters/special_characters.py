"""Drop captions made of signs rather than words."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from filters.base import AtMost, Columns
from filters.text import share


class SpecialCharacters(AtMost):
    """Keep captions in which few characters are neither letter, digit, mark nor space."""

    reason: ClassVar[str] = "special_characters"
    reads: ClassVar[tuple[str, ...]] = ("caption",)
    unit: ClassVar[str] = "share"
    threshold: ClassVar[str] = "max_share"

    max_share: float = Field(default=0.25, ge=0, le=1, description="Highest share kept, inclusive.")

    def measure(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Return the share of signs."""
        return share(columns["caption"], r"[^\p{L}\p{M}\p{N}\s]")
