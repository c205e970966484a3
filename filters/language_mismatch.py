"""Drop captions that are not in the language their source declares."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Columns, Examples, Filter, Mask
from filters.text.captions import captions_of
from filters.text.language import NAMES, guessed

# Words of these are too much alike to accuse a declaration by them.
_ALIKE = (
    ("da", "no", "sv"), ("cs", "sk"), ("ru", "uk", "bg"), ("es", "pt", "it", "fr", "ro"), ("zh", "ja"), ("ar", "fa"),
    ("de", "nl"),
)  # fmt: skip


class LanguageMismatch(Filter):
    """Keep captions whose language is the declared one, unknown, or hardly told from it.

    The language is guessed by script and function words; where nothing is declared, nothing is dropped.
    A flag: in no policy of ours.
    """

    reason: ClassVar[str] = "language_mismatch"
    reads: ClassVar[tuple[str, ...]] = ("caption", "language")
    origin: ClassVar[str] = "ours; DataComp keeps English only, which is not what the paper did"
    examples: ClassVar[Examples] = Examples(
        (
            ("An old man is sitting on a bench in the park", "zh"),
            ("公園のベンチに座っている老人と犬の写真です", "en"),
            ("Собака бежит по снегу в зимнем лесу", "de"),
            ("Der Hund läuft über den See und bellt", "fr"),
        ),
        (
            ("An old man is sitting on a bench in the park", "en"),
            ("An old man is sitting on a bench in the park", None),
            ("An old man is sitting on a bench in the park", "fil"),
            ("Eiffel Tower Paris", "fr"),
            ("公園のベンチに座っている老人と犬の写真です", "ja"),
            ("En hund løper på isen", "da"),
            (None, "de"),
        ),
    )

    def keep(self, columns: Columns) -> Mask:
        """Keep what agrees, or cannot be told."""
        declared, found = _declared(columns["language"]), guessed(captions_of(columns))
        return np.asarray((declared == 0) | (found == 0) | _alike()[declared, found])

    def unknown(self, columns: Columns) -> Mask:
        """Return where no language that we can tell is declared."""
        return np.asarray(_declared(columns["language"]) == 0)


def _declared(language: pa.Array) -> np.ndarray:
    """Return declared languages as numbers of `NAMES`; `en-GB` is `en`, `fil` is not `fi`, what is not there is 0."""
    plain = pc.utf8_lower(pc.replace_substring_regex(language.cast(pa.string()), "[-_].*", ""))
    numbers = pc.fill_null(pc.index_in(plain, pa.array(NAMES)), 0)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.int64)


def _alike() -> Mask:
    table = np.eye(len(NAMES), dtype=bool)
    for group in _ALIKE:
        numbers = [NAMES.index(code) for code in group]
        table[np.ix_(numbers, numbers)] = True
    return table
