"""Take samples out of shards: only the shards that hold them are written again, the others are copied as they are.

Which shards those are is read from the indexes beside them; no archive is opened to find out. The lists themselves
stay in the store (`stages/takedown_list.py`), so that nothing that is written later brings the samples back.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from infra.storage import Store, sha256_file
from stages.manifest import Ledger, Manifest, ManifestError, Part, digest_of
from stages.shard_index import copied, layout_of, per_source, planned, read_index, shard_totals
from stages.takedown_list import Takedown, load_lists
from stages.workspace import Output, Workspace, read_file

VERSION = 1


class Parameters(BaseModel):
    """Which lists of the store are applied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lists: tuple[str, ...] = Field(
        min_length=1, description="Keys of registered lists; their names are their hashes."
    )


@dataclass(frozen=True)
class Hits:
    """What a list names in one shard."""

    part: Part
    kinds: tuple[str | None, ...]
    """Per sample, in the shard's order, the kind of entry that names it."""

    @property
    def counts(self) -> Counter[str]:
        """Samples per kind."""
        return Counter(kind for kind in self.kinds if kind)


def find_hits(store: Store, shards: Manifest, takedown: Takedown) -> Iterator[Hits]:
    """Yield the shards that hold what is named, by their indexes alone, in their order.

    Raises:
        ManifestError: A shard has no index, or does not know what the list asks for.
    """
    for part in shards.parts:
        if (found := hits_of(store, shards, part, takedown)).counts:
            yield found


def hits_of(store: Store, shards: Manifest, part: Part, takedown: Takedown) -> Hits:
    """Return what is named in one shard.

    Raises:
        ManifestError: It has no index, or does not know what the list asks for.
    """
    return Hits(part, tuple(takedown.kinds(read_index(store, shards, part), f"{shards.ref} shard {part.key}")))


def rewrite(item: tuple[str, str, Part], output: Output, shards: Manifest, lists: tuple[str, ...]) -> Part:
    """Publish a shard without what is named, or unchanged where nothing is; one without samples has no files."""
    key, digest, old = item
    found = hits_of(output.store, shards, old, load_lists(output.store, lists))
    listed, taken = len(found.kinds), found.counts.total()
    ledger = Ledger(listed=listed, kept=listed - taken, rejected=taken)
    facts: dict[str, Any] = {"taken_down": dict(sorted(found.counts.items()))}
    if not taken:
        return _unchanged(key, digest, old, output, shards, ledger, {**old.facts, **facts})
    if taken == listed:
        return output.part(key, digest, ledger, {}, {"per_source": {}, **facts})
    stays = pa.array([kind is None for kind in found.kinds], pa.bool_())
    index = read_index(output.store, shards, old).filter(stays)
    with copied(key, output.store, planned(index, shards.key(old.files["tar"]))) as files:
        return output.part(key, digest, ledger, files, {"per_source": per_source(index), **facts})


def _unchanged(
    key: str, digest: str, old: Part, output: Output, shards: Manifest, ledger: Ledger, facts: dict[str, Any]
) -> Part:
    """Publish a shard as it is, once it is seen to be what its manifest says."""
    index = read_file(output.store, shards, old.files["index"])
    with output.store.local(shards.key(old.files["tar"])) as tar:
        if sha256_file(tar) != old.files["tar"].sha256:
            raise ManifestError(
                f"{shards.key(old.files['tar'])} differs from its manifest; make {shards.ref} again, then take down"
            )
        return output.part(
            key, digest, ledger, {"tar": (f"{key}.tar", tar), "index": (f"{key}.parquet", index)}, facts
        )


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Write shards again without what the lists name."""
    shards = here.input("shards")
    items = []
    for part in shards.parts:
        hashes = {role: file.sha256 for role, file in part.files.items()}
        digest = digest_of([hashes, list(parameters.lists)])
        items.append((part.key, digest, (part.key, digest, part)))
    work = partial(rewrite, output=output, shards=shards, lists=parameters.lists)
    made = here.map_parts(output, work, items, unit="shards", light=True)
    taken = sum((Counter(part.facts["taken_down"]) for part in made), Counter[str]())
    parts = [part for part in made if part.files]
    if not parts:
        raise ManifestError(
            f"every sample of {shards.ref} is taken down: nothing is left to write; remove it instead"
        )
    ledger = sum((part.ledger for part in made), Ledger(listed=0, kept=0))
    taken_down = {"lists": len(parameters.lists), "rows": dict(sorted(taken.items()))}
    totals = shard_totals(parts, layout_of(shards), taken_down)
    return output.commit(parts, ledger=ledger, totals=totals)
