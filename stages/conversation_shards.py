"""Conversations as they are made, into a shard with its index; those that are refused are counted and listed."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from infra.scratch import scratch_folder
from stages.conversation_rows import Reason
from stages.held_out import digests_of_members
from stages.manifest import Ledger, Part
from stages.shard_index import ABOUT, KNOWN_BY, PICTURES_INDEX, entry
from stages.tars import ending, sample_bytes
from stages.workspace import Output, parquet_bytes

LISTED = 1000
"""Bad rows of a part, and of an artifact, that are named; the others are counted."""


class Made(NamedTuple):
    """A conversation: its name, its row, and its pictures as they are stored."""

    uid: str
    told: dict[str, Any]
    pictures: list[bytes]

    @property
    def members(self) -> dict[str, bytes]:
        """The files of its sample."""
        single = len(self.pictures) == 1 and not self.told.get("video")
        named = {"jpg" if single else f"{number}.jpg": data for number, data in enumerate(self.pictures)}
        return {**named, "json": json.dumps(self.told, sort_keys=True, ensure_ascii=False).encode()}


class Bad(NamedTuple):
    """A row that is not learned from."""

    file: str
    where: str
    reason: Reason
    what: str

    def __str__(self) -> str:
        """Return the sentence for people."""
        return f"{self.file}, {self.where}: {self.reason}: {self.what}"


@dataclass
class Tally:
    """What is counted while a shard is made."""

    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    sums: Counter[str] = field(default_factory=Counter)

    def refuse(self, bad: Bad) -> None:
        """Count a bad row."""
        self.rejected[bad.reason] += 1
        if len(self.bad) < LISTED:
            self.bad.append(str(bad))

    def take(self, made: Made) -> None:
        """Count a conversation."""
        turns = made.told["conversations"]
        self.languages[str(made.told["language"])] += 1
        self.sources[str(made.told["source"])] += 1
        self.sums["kept"] += 1
        self.sums["turns"] += len(turns) // 2
        self.sums["characters"] += sum(len(turn["value"]) for turn in turns)
        self.sums["pictures"] += 0 if made.told.get("video") else len(made.pictures)
        self.sums["videos"] += bool(made.told.get("video"))

    def facts(self) -> dict[str, Any]:
        """Return the counts as a manifest keeps them."""
        return {
            "rejected": dict(sorted(self.rejected.items())),
            "languages": dict(sorted(self.languages.items())),
            "per_source": dict(sorted(self.sources.items())),
            **{name: self.sums[name] for name in ("turns", "characters", "pictures", "videos")},
        }


def write_part(key: str, input_digest: str, rows: Iterable[Made | Bad], output: Output) -> Part:
    """Write a shard, one conversation in memory at a time, its index and the list of bad rows."""
    tally, index = Tally(), []
    with scratch_folder("conversations") as folder:
        path = folder / "shard.tar"
        with path.open("wb") as out:
            for row in rows:
                if isinstance(row, Bad):
                    tally.refuse(row)
                    continue
                tally.take(row)
                members = row.members
                sample = sample_bytes(row.uid, members)
                known_by = digests_of_members(members)
                index.append({**entry(_about(row), sample, out.tell()), KNOWN_BY: known_by})
                out.write(sample)
            out.write(ending(out.tell()))
        kept, rejected = tally.sums["kept"], tally.rejected.total()
        table = pa.Table.from_pylist(index, schema=PICTURES_INDEX)
        files: dict[str, tuple[str, Any]] = {
            "tar": (f"{key}.tar", path),
            "index": (f"{key}.parquet", parquet_bytes(table)),
        }
        if tally.bad:
            files["bad_rows"] = f"{key}-bad.txt", "\n".join([*tally.bad, ""]).encode("utf-8", "backslashreplace")
        ledger = Ledger(listed=kept + rejected, kept=kept, rejected=rejected)
        return output.part(key, input_digest, ledger, files, tally.facts())


def _about(made: Made) -> dict[str, Any]:
    """Return what a conversation is known by in an index."""
    nothing = {name: None for name, _ in ABOUT}
    said = {"source": made.told["source"], "language": made.told["language"]}
    return {**nothing, **said, "uid": bytes.fromhex(made.uid)}
