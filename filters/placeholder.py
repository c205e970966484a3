"""Drop captions that stand in for one."""

from typing import ClassVar

import numpy as np

from filters.base import Columns, Filter, Mask
from filters.text import matches

_PATTERNS = (
    r"lorem ipsum",
    r"placeholder",
    r"coming soon",
    r"no (?:image|photo|picture)(?: available)?",
    r"^\s*(?:untitled|default|null|none|undefined|nan|n/a|test)\s*\d*\s*$",
    r"^\s*(?:alt|image|photo|img|picture|thumbnail|logo|icon|banner)\s*\d*\s*$",
    r"^(?:img|dsc[nf]?|dji|pxl|screenshot|image|photo|untitled)[ _-]?\d{2,}",
    r"\{\{[^}]*\}\}|\$\{|<%|%>",
    r"\.(?:jpe?g|png|gif|webp|bmp|tiff?)\s*$",
)


class Placeholder(Filter):
    """Keep captions that are not template text, file names or words such as "untitled"."""

    reason: ClassVar[str] = "placeholder"
    reads: ClassVar[tuple[str, ...]] = ("caption",)

    def keep(self, columns: Columns) -> Mask:
        """Keep what no pattern matches."""
        return np.asarray(~matches(columns["caption"], "(?i)" + "|".join(_PATTERNS)))
