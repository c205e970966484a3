"""What the filters kept of one part, and where it lies in the pool: its picture file is read once, front to back."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from stages.manifest import File, Manifest, ManifestError, Part
from stages.shard_index import Row, sample_json
from stages.tars import BLOCK, Sample, TarError, samples_of
from stages.workspace import Output, read_table

KNOWN = ("url_id", "host", "body_sha256", "phash")
"""Columns of a pool's outcomes that travel into the index."""


@dataclass(frozen=True)
class Source:
    """What is known of one source: manifests whose parts have the same keys."""

    verdicts: Manifest
    signals: Manifest
    pool: Manifest

    def part(self, manifest: Manifest, key: str) -> Part:
        """Return a part by key.

        Raises:
            ManifestError: The artifact has none.
        """
        for part in manifest.parts:
            if part.key == key:
                return part
        raise ManifestError(f"{manifest.ref} has no part {key}, which {self.verdicts.ref} judges; make both again")


def kept_rows(output: Output, source: str, of: Source, key: str) -> Iterator[tuple[Row, int]]:
    """Yield (row of the plan, bytes in the shard) of each sample of a part that no rule took, in the pool's order."""
    verdicts = read_table(output.store, of.verdicts, of.part(of.verdicts, key), "verdicts")
    kept = {
        u for u, mask in zip(verdicts["uid"].to_pylist(), verdicts["reasons"].to_pylist(), strict=True) if not mask
    }
    if not kept:
        return
    spoken = read_table(output.store, of.signals, of.part(of.signals, key), "language")
    language = dict(zip(spoken["uid"].to_pylist(), spoken["value"].to_pylist(), strict=True))
    known = known_of(output, of, key)
    pictures = of.part(of.pool, key).files["pictures"]
    tar = of.pool.key(pictures)
    for sample in _scan(output, of.pool, pictures):
        uid = bytes.fromhex(sample.key)
        if uid not in kept:
            continue
        kept.discard(uid)
        members = sample.members
        if list(members) != ["jpg", "txt"]:
            raise ManifestError(f"sample {sample.key} in {tar} is not a picture and a caption; make the pool again")
        stretch = sample.raw
        row = {"uid": uid, "source": source, "language": language.get(uid), "tar": tar, **known[uid]}
        row |= {"sha256": hashlib.sha256(members["jpg"].data).digest(), "offset": sample.offset}
        row |= {"bytes": len(stretch), "sample_sha256": hashlib.sha256(stretch).digest()}
        facts = sample_json(sample.key, source, row["language"], members["txt"].data.decode())
        yield row, len(stretch) + BLOCK + -(-len(facts) // BLOCK) * BLOCK
    if kept:
        raise ManifestError(
            f"sample {min(kept).hex()} was kept but its picture is not in the pool; verify the pool artifacts"
        )


def known_of(output: Output, of: Source, key: str) -> dict[bytes, dict[str, Any]]:
    """Return by uid what takedown lists ask for: address, host and hashes; null where an older pool does not tell."""
    outcomes = read_table(output.store, of.pool, of.part(of.pool, key), "outcomes")
    told = [name for name in KNOWN if name in outcomes.column_names]
    known: dict[bytes, dict[str, Any]] = {}
    for row in outcomes.select(["uid", *told]).to_pylist():
        facts = known[row.pop("uid")] = {**dict.fromkeys(KNOWN), **row}
        if facts["body_sha256"] is not None:
            facts["body_sha256"] = bytes.fromhex(facts["body_sha256"])
    return known


class _Hashing:
    """Reads a file and hashes what went through."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _scan(output: Output, pool: Manifest, file: File) -> Iterator[Sample]:
    """Yield the samples of a pool's tar, one in memory; at its end it must have been the file that was published."""
    key = pool.key(file)
    with output.store.open(key) as opened:
        reader = _Hashing(opened)
        try:
            yield from samples_of(cast(BinaryIO, reader))
        except TarError as error:
            raise ManifestError(f"{key}: {error}") from error
    if reader.digest.hexdigest() != file.sha256:
        raise ManifestError(
            f"{key} differs from its manifest; `internvl verify {pool.ref}` lists damage, "
            f"then run stage {pool.stage} again with --force"
        )
