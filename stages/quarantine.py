"""Parts that cannot be made: tried a few times, then left out and listed, so that one does not stop a billion rows.

Off by default (`Placement.max_quarantined_share` 0): an error of a part then ends the stage, and what it made stays.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.storage import StorageError
from stages.fence import TakenOver
from stages.manifest import Ledger, ManifestError, Part

QUARANTINED = "quarantined"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tried:
    """Work that is tried again after an error, and gives an empty part where it never succeeds.

    The store's own errors pass, and that another run makes the artifact now: they are no fault of a part.
    """

    work: Callable[..., Part]
    rows: Callable[[Any], int]
    """Rows of an item, all of which fail with it."""
    tries: int

    def __call__(self, item: Any, **given: Any) -> Part:
        """Make the part of an item, which begins with the part's key and the digest of its input."""
        for attempt in range(1, self.tries + 1):
            try:
                return self.work(item, **given)
            except (StorageError, TakenOver):
                raise
            except Exception as error:
                log.exception("part %s, try %d of %d", item[0], attempt, self.tries)
                last: Exception = error
        return self.lost(item, last)

    def lost(self, item: Any, error: Exception) -> Part:
        """Return the empty part of an item whose work raised or killed its process.

        Only the kind of the error is kept: its text may name hosts and times, and equal work gives equal manifests.
        """
        rows = self.rows(item)
        facts = {QUARANTINED: type(error).__name__}
        return Part(
            key=item[0], input_digest=item[1], ledger=Ledger(listed=rows, kept=0, failed=rows), files={}, facts=facts
        )


def is_quarantined(part: Part) -> bool:
    """Say whether a part is an empty one that stands for what could not be made."""
    return QUARANTINED in part.facts


def refuse_more(quarantined: Sequence[Part], parts: int, share: float) -> None:
    """Stop a stage in which too many parts cannot be made.

    Raises:
        ManifestError: They are more than this share of all parts.
    """
    if len(quarantined) <= share * parts:
        return
    named = ", ".join(f"{part.key} ({part.facts[QUARANTINED]})" for part in quarantined[:5])
    raise ManifestError(
        f"{len(quarantined)} of {parts} parts could not be made, more than max_quarantined_share {share:g}: {named}; "
        "the job's log has why. What was made is kept; mend it and run the same command, or raise the share"
    )


def listed(quarantined: Iterable[Part]) -> list[dict[str, Any]]:
    """Return what a manifest tells of parts that could not be made."""
    ordered = sorted(quarantined, key=lambda part: part.key)
    return [{"part": part.key, "rows": part.ledger.listed, "reason": part.facts[QUARANTINED]} for part in ordered]


def keys_in(totals: Mapping[str, Any]) -> set[str]:
    """Return the keys of the parts that an artifact lacks, from the totals of its manifest."""
    return {each["part"] for each in totals.get(QUARANTINED, ())}
