"""How much of a caption is what pages say about themselves: furniture, errors, stand-ins."""

from filters.text.captions import Captions, Floats, Ints, remembered
from filters.text.characters import letters, share
from filters.text.lexicon import PAGE, Role, with_role


@remembered
def covered(captions: Captions) -> dict[str, Ints]:
    """Return letters of each caption that lie in a phrase, by list."""
    return PAGE.covered(captions, with_role(captions, Role.PAGE_BEGINS))


def coverage(captions: Captions, name: str) -> Floats:
    """Return the share of a caption's letters that phrases of one list cover; 0 without letters."""
    return share(covered(captions)[name], letters(captions))
