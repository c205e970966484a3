"""Published names of a dataset's classes, found by what the classes are called in the data.

Folders are called `AnnualCrop` where the published prompts speak of `annual crop land`: with other words a number is
no longer the paper's.
"""

import re
from collections.abc import Sequence

_SEAM = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=\D)(?=\d)|(?<=\d)(?=\D)")
_WORD = re.compile(r"[^\W_]+")
_STEM = 4
"""A word of so many letters is also found in one that goes on: fear in fearful."""


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in small letters: `AnnualCrop`, `annual_crop` and `annual crop` have the same."""
    return tuple(_WORD.findall(_SEAM.sub(" ", name).lower()))


def published_wording(own: Sequence[str], published: Sequence[str]) -> tuple[str, ...] | None:
    """Return the published name of each class; None where they are more or fewer, or not all are found.

    A class is found by equal words, else by the one free name in which all its words occur and that no other class
    may mean. One class and one name that are left at the end belong together.

    Args:
        own: What the classes are called in the data.
        published: All published names, in any order.
    """
    if len(own) != len(published):
        return None
    found: dict[int, int] = {}
    for alike in (_equal, _contained):
        free = [number for number in range(len(published)) if number not in found.values()]
        open_ = [number for number in range(len(own)) if number not in found]
        fits = {each: [one for one in free if alike(words_of(own[each]), words_of(published[one]))] for each in open_}
        claims = [one for several in fits.values() for one in several]
        found |= {each: some[0] for each, some in fits.items() if len(some) == 1 and claims.count(some[0]) == 1}
    left = set(range(len(own))) - found.keys()
    if len(left) == 1:
        found[left.pop()] = (set(range(len(published))) - set(found.values())).pop()
    return tuple(published[found[number]] for number in range(len(own))) if len(found) == len(own) else None


def _equal(own: Sequence[str], published: Sequence[str]) -> bool:
    return bool(own) and own == published


def _contained(own: Sequence[str], published: Sequence[str]) -> bool:
    return bool(own) and all(
        any(word == each or (len(word) >= _STEM and each.startswith(word)) for each in published) for word in own
    )
