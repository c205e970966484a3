"""Other rules over what is stored: only the signals that they read, only the rows that all other rules keep."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter
from filters.bits import BITS
from filters.verdicts import give
from infra.storage import Store
from stages.manifest import Manifest, ManifestError, Part, find
from stages.ref import Ref
from stages.signal_columns import read_signals
from stages.workspace import read_table

Mask = npt.NDArray[np.bool_]


class Rescan(NamedTuple):
    """Rows kept by the policy with changed rules."""

    after: int
    stayed: int
    """Kept before and after."""
    alone: dict[str, int]
    """Rule -> rows kept if only it changes."""
    languages: dict[str, int]
    read: dict[str, int]
    """Signal -> rows read of it."""


def input_of(store: Store, manifest: Manifest, prefix: str) -> Manifest:
    """Return the input whose name begins with this path: the very version that the artifact was made from.

    Raises:
        ManifestError: No version that stands has that digest.
    """
    for name, digest in manifest.identity["inputs"].items():
        if name.partition("/")[0] != prefix:
            continue
        versions = sorted(store.folders(name), key=lambda version: version != manifest.ref.version)
        for version in versions:
            found = find(store, Ref(name=name, version=version))
            if found and found.digest == digest:
                return found
        raise ManifestError(
            f"{manifest.ref} was made from {name} with digest {digest[:16]}, which no longer stands; "
            f"only stops can be asked, or run stage {manifest.stage} again"
        )
    raise ManifestError(f"{manifest.ref} was made from no {prefix}")


def rescan(store: Store, verdicts: Manifest, rules: Sequence[Filter]) -> Rescan:
    """Count what the policy of some verdicts would keep with these rules in place of its own of the same names.

    Raises:
        ManifestError: The signals no longer stand, or lack rows.
    """
    signals = input_of(store, verdicts, "signals")
    names = sorted({"language"} | {name for rule in rules for name in rule.reads})
    scored = {part.key: part for part in signals.parts}
    after, stayed, read = 0, 0, 0
    alone, kept = {rule.reason: 0 for rule in rules}, dict[str, int]()
    for part in verdicts.parts:
        rows, was = _rows_in_question(store, verdicts, part, rules)
        _, columns = read_signals(store, signals, scored[part.key], names, rows)
        found = give(rules, columns, len(rows), measured=False).reasons
        now = [(found >> np.uint64(BITS[rule.reason]) & np.uint64(1)) == 0 for rule in rules]
        both, new = np.all(was, axis=0), np.all(now, axis=0)
        after, stayed = after + int(new.sum()), stayed + int((both & new).sum())
        for number, reason in enumerate(alone):
            alone[reason] += int(np.all([*was[:number], now[number], *was[number + 1 :]], axis=0).sum())
        counts = pc.value_counts(columns["language"].filter(pa.array(new)))
        for name, count in zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True):
            kept[name or "unknown"] = kept.get(name or "unknown", 0) + count
        read += scored[part.key].ledger.kept
    return Rescan(after, stayed, alone, kept, dict.fromkeys(names, read))


def _rows_in_question(
    store: Store, verdicts: Manifest, part: Part, rules: Sequence[Filter]
) -> tuple[pa.Array, list[Mask]]:
    """Return uids of rows that no other rule drops, and which of them each of these rules kept."""
    table = read_table(store, verdicts, part, "verdicts")
    reasons = table["reasons"].to_numpy()
    bits = [np.uint64(1 << BITS[rule.reason]) for rule in rules]
    rows = np.flatnonzero((reasons & ~np.bitwise_or.reduce(bits)) == 0)
    return table["uid"].combine_chunks().take(pa.array(rows)), [(reasons[rows] & bit) == 0 for bit in bits]
