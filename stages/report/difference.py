"""What changed since another run of the same source: stayed, lost and gained, by uid, and which parameter did it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter
from filters.bits import BITS
from filters.policies import Policy
from stages.manifest import Manifest, ManifestError
from stages.report.shown import Shown
from stages.report.survey import Sample, hashes

EXAMPLES = 5


@dataclass(frozen=True)
class Moved:
    """One parameter that differs, and the rows that it moves: only it, and it among others."""

    parameter: str
    was: str
    now: str
    lost_alone: int
    lost_shared: int
    gained_alone: int
    gained_shared: int


@dataclass(frozen=True)
class Difference:
    """Rows kept before and now; those that came or went with the listing or the fetch stand apart."""

    source: str
    before: str
    same_inputs: bool
    stayed: int
    lost: int
    gained: int
    went: int
    """Kept before, and not judged now."""
    came: int
    """Kept now, and not judged before."""
    judged_before: int
    judged_now: int
    moved: tuple[Moved, ...] = ()
    languages: tuple[tuple[str, int, int], ...] = ()
    """(language, kept before, kept now) of the rows that both runs judged and the sample knows."""
    examples: tuple[tuple[Shown, str], ...] = ()
    """Lost rows, with what drops them now."""

    @property
    def kept_before(self) -> int:
        """Rows that the other run kept."""
        return self.stayed + self.lost + self.went

    @property
    def kept_now(self) -> int:
        """Rows kept now."""
        return self.stayed + self.gained + self.came


def difference(
    source: str,
    before: tuple[Manifest, Policy, pa.Table],
    now: tuple[Manifest, Policy, pa.Table],
    sample: Sample | None = None,
) -> Difference:
    """Compare two runs over one source.

    Args:
        source: Its name.
        before: The other run's manifest, policy, and its verdicts with columns uid and reasons.
        now: The same of this run.
        sample: Captions of some rows of this run, for examples and languages.

    Raises:
        ManifestError: Both are the same artifact, or their policies have different names.
    """
    (old, old_policy, old_table), (new, new_policy, new_table) = before, now
    if old.ref == new.ref:
        raise ManifestError(f"{new.ref} cannot be compared with itself; name another version")
    if old_policy.name != new_policy.name:
        raise ManifestError(f"{old.ref} and {new.ref} are of different policies; compare runs of one")
    places = pc.index_in(new_table["uid"], value_set=old_table["uid"].combine_chunks())
    both = np.asarray(pc.is_valid(places))
    old_masks = old_table["reasons"].to_numpy().astype(np.uint64)
    new_masks = new_table["reasons"].to_numpy().astype(np.uint64)
    joined = old_masks[np.asarray(places.drop_null()).astype(np.int64)]
    here = new_masks[both]
    stayed = int(((joined == 0) & (here == 0)).sum())
    lost, gained = (joined == 0) & (here != 0), (joined != 0) & (here == 0)
    kept_before, kept_now = int((old_masks == 0).sum()), int((new_masks == 0).sum())
    found = Difference(
        source=source,
        before=str(old.ref),
        same_inputs=old.identity.get("inputs") == new.identity.get("inputs"),
        stayed=stayed,
        lost=int(lost.sum()),
        gained=int(gained.sum()),
        went=kept_before - stayed - int(lost.sum()),
        came=kept_now - stayed - int(gained.sum()),
        judged_before=len(old_masks),
        judged_now=len(new_masks),
        moved=_moved(old_policy, new_policy, here[lost], joined[gained]),
        languages=_languages(sample, new_table, both, joined) if sample else (),
        examples=_examples(sample, new_table, both, lost) if sample else (),
    )
    assert found.kept_before == kept_before and found.kept_now == kept_now
    return found


def changed_rules(old: Policy, new: Policy) -> list[tuple[str, str, str, str]]:
    """Return (reason, parameter, was, now) of every parameter that differs; a rule that came or went is one."""
    before = {rule.reason: rule for rule in old.filters}
    after = {rule.reason: rule for rule in new.filters}
    found = []
    for reason in dict.fromkeys([*before, *after]):
        if reason not in after:
            found.append((reason, reason, "on", "off"))
        elif reason not in before:
            found.append((reason, reason, "off", "on"))
        else:
            found += [(reason, *rest) for rest in _fields(before[reason], after[reason])]
    return found


def _fields(old: Filter, new: Filter) -> list[tuple[str, str, str]]:
    one, other = old.model_dump(mode="json"), new.model_dump(mode="json")
    return [
        (f"{old.reason}.{name}", _short(one.get(name)), _short(other.get(name)))
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _moved(
    old: Policy, new: Policy, lost: npt.NDArray[np.uint64], gained: npt.NDArray[np.uint64]
) -> tuple[Moved, ...]:
    found = []
    for reason, parameter, was, now in changed_rules(old, new):
        bit = np.uint64(1 << BITS[reason])
        counts = []
        for masks in (lost, gained):
            alone = int((masks == bit).sum())
            counts += [alone, int(((masks & bit) != 0).sum()) - alone]
        found.append(Moved(parameter, was, now, *counts))
    return tuple(found)


def _known(sample: Sample, table: pa.Table, both: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return for each row that both runs judged which row of the sample it is, -1 where none."""
    uids = table["uid"].combine_chunks().filter(pa.array(both))
    places = pc.index_in(uids, value_set=pa.array(sample.uids, uids.type))
    return np.asarray(pc.fill_null(places, -1)).astype(np.int64)


def _languages(
    sample: Sample, table: pa.Table, both: npt.NDArray[np.bool_], joined: npt.NDArray[np.uint64]
) -> tuple[tuple[str, int, int], ...]:
    counts: dict[str, list[int]] = {}
    for row, old in zip(_known(sample, table, both).tolist(), joined.tolist(), strict=True):
        if row >= 0:
            line = counts.setdefault(sample.languages[row], [0, 0])
            line[0] += not old
            line[1] += not sample.reasons[row]
    ordered = sorted(counts, key=lambda name: (-counts[name][0], name))
    return tuple((name, counts[name][0], counts[name][1]) for name in ordered[:8] if any(counts[name]))


def _examples(
    sample: Sample, table: pa.Table, both: npt.NDArray[np.bool_], lost: npt.NDArray[np.bool_]
) -> tuple[tuple[Shown, str], ...]:
    rows = _known(sample, table, both)[lost]
    rows = rows[rows >= 0]
    if not len(rows):
        return ()
    order = hashes([sample.uids[row] for row in rows.tolist()], "lost")
    names: Mapping[int, str] = {bit: reason for reason, bit in BITS.items()}
    found = []
    for row in rows[np.argsort(order, kind="stable")][:EXAMPLES].tolist():
        mask = int(sample.reasons[row])
        reasons: Sequence[str] = [names[bit] for bit in sorted(names) if mask >> bit & 1]
        shown = Shown(sample.uids[row].hex(), sample.captions[row], sample.languages[row], kept=False)
        found.append((shown, " + ".join(reasons)))
    return tuple(found)
