"""Rows that a page shows: counts by language and mask, and a sample by hash with captions and measures."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from filters.funnel import Funnel
from filters.policies import Policy
from filters.verdicts import give
from stages.manifest import Manifest, Part
from stages.report.rows import Masks
from stages.signal_columns import read_signals
from stages.workspace import Output

ROWS_LOOKED_AT = 200_000
"""Rows, smallest hash first, among which those nearest a threshold are looked for."""
SEED = 2312

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Sample:
    """Rows of one source with all that a gallery needs, in the order of their hash."""

    uids: list[bytes]
    reasons: Words
    captions: list[str]
    languages: list[str]
    unsafe: npt.NDArray[np.float32]
    measures: dict[str, npt.NDArray[np.float32]]
    columns: dict[str, Any]
    """Signals, to judge rows again at another threshold."""
    parts: dict[bytes, str] = field(default_factory=dict)
    """Which part each row is in."""

    @cached_property
    def coded_languages(self) -> npt.NDArray[np.int64]:
        """Languages as numbers in the order of their names, shape (rows,)."""
        places = {name: place for place, name in enumerate(sorted(set(self.languages)))}
        return np.fromiter((places[name] for name in self.languages), np.int64, len(self.languages))


@dataclass(frozen=True)
class Survey:
    """What was seen of a source's verdicts."""

    languages: Mapping[str, Masks]
    sample: Sample
    rows: int


def hashes(uids: Sequence[bytes] | pa.Array, *names: str) -> Words:
    """Return a hash of each uid under a name, shape (rows,): uids are hashes already, the name mixes them anew."""
    key = int.from_bytes(hashlib.sha256("\0".join((str(SEED), *names)).encode()).digest()[:8], "little")
    array = uids if isinstance(uids, pa.Array) else pa.array(uids, pa.binary(16))
    whole = np.frombuffer(array.buffers()[1], dtype="<u8").reshape(-1, 2) if len(array) else np.zeros((0, 2), "<u8")
    words = whole[array.offset : array.offset + len(array), 0].astype(np.uint64)
    mixed = words ^ np.uint64(key)
    # The finalizer of splitmix64: every bit of the input reaches every bit of the output.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def survey(output: Output, parts: Sequence[Part], policy: Policy, signals: Manifest, funnel: Funnel) -> Survey:
    """Return counts by language, and a sample of at most 200,000 rows; only parts that it is from are read.

    Args:
        output: The verdicts' artifact, whose parts were published.
        parts: Its parts.
        policy: The rules that gave the verdicts.
        signals: What they were given from.
        funnel: Their counts.
    """
    scored = {part.key: part for part in signals.parts}
    pieces: list[Sample] = []
    looked_into = parts_of(parts)
    most = sum(part.ledger.listed for part in parts if part.key in looked_into)
    for part in parts:
        if part.key not in looked_into:
            continue
        table = _verdicts(output, part)
        uids, reasons = table["uid"].combine_chunks(), table["reasons"].to_numpy().astype(np.uint64)
        chosen = chosen_of(uids, most)
        if len(chosen):
            some = uids.take(pa.array(chosen))
            _, columns = read_signals(output.store, signals, scored[part.key], _names(policy, scored[part.key]), some)
            pieces.append(sample_of(policy, some.to_pylist(), reasons[chosen], columns, part.key))
    return Survey(funnel.masks_by_language, joined(pieces), funnel.samples)


def _verdicts(output: Output, part: Part) -> pa.Table:
    file = pa.BufferReader(output.store.read(output.ref.key(part.files["verdicts"].name)))
    return pq.read_table(file, columns=["uid", "reasons"])


def _names(policy: Policy, scored: Part) -> list[str]:
    wanted = {"caption", "language"} | {name for rule in policy.filters for name in rule.reads}
    return sorted(wanted | ({"unsafe"} & set(scored.files)))


def taken(columns: Mapping[str, Any], rows: pa.Array) -> dict[str, Any]:
    """Return some rows of all columns."""
    numbers = rows.to_numpy(zero_copy_only=False)
    return {name: c.take(rows) if isinstance(c, pa.Array) else c[numbers] for name, c in columns.items()}


def parts_of(parts: Sequence[Part]) -> set[str]:
    """Return the parts whose rows are looked at: as many as hold enough rows, smallest hash of their key first.

    Parts are buckets of hashed addresses, so some of them are a fair sample, and few files of pictures are read.
    """
    chosen: set[str] = set()
    rows = 0
    for part in sorted(parts, key=lambda each: hashlib.sha256(f"{SEED} {each.key}".encode()).digest()):
        if rows >= ROWS_LOOKED_AT:
            break
        chosen.add(part.key)
        rows += part.ledger.listed
    return chosen


def chosen_of(uids: Sequence[bytes] | pa.Array, rows: int) -> npt.NDArray[np.int64]:
    """Return which uids are looked at, of so many rows in all: all of few, else those with a small hash."""
    if rows <= ROWS_LOOKED_AT or not len(uids):
        return np.arange(len(uids))
    bar = np.uint64(int(ROWS_LOOKED_AT / rows * 2**64))
    return np.flatnonzero(hashes(uids, "sample") < bar)


def sample_of(
    policy: Policy, uids: list[bytes], reasons: Words, columns: Mapping[str, Any], part: str = ""
) -> Sample:
    """Return rows as a sample; the rules measure them anew."""
    return Sample(
        uids=uids,
        reasons=reasons,
        captions=[text or "" for text in columns["caption"].to_pylist()],
        languages=[text or "unknown" for text in columns["language"].to_pylist()],
        unsafe=columns.get("unsafe", np.full(len(uids), np.nan, dtype=np.float32)),
        measures=give(policy.filters, columns, len(uids)).measures,
        columns=dict(columns),
        parts=dict.fromkeys(uids, part),
    )


def joined(pieces: Sequence[Sample]) -> Sample:
    """Return samples as one."""

    def texts(name: str) -> list[Any]:
        return [value for piece in pieces for value in getattr(piece, name)]

    def numbers(arrays: Iterable[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
        return np.concatenate([np.zeros(0, dtype=kind), *arrays]).astype(kind)

    rules = sorted({name for piece in pieces for name in piece.measures})
    columns = sorted({name for piece in pieces for name in piece.columns})
    return Sample(
        uids=texts("uids"),
        reasons=numbers((p.reasons for p in pieces), np.uint64),
        captions=texts("captions"),
        languages=texts("languages"),
        unsafe=numbers((p.unsafe for p in pieces), np.float32),
        measures={name: numbers((p.measures[name] for p in pieces), np.float32) for name in rules},
        columns={name: _column([piece.columns[name] for piece in pieces]) for name in columns},
        parts={uid: key for piece in pieces for uid, key in piece.parts.items()},
    )


def _column(parts: Sequence[Any]) -> Any:
    return pa.concat_arrays(parts) if isinstance(parts[0], pa.Array) else np.concatenate(parts)
