"""List a source in a test, and account for every one of its rows."""

from pathlib import Path
from typing import Any

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages.manifest import Manifest, verify
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.workspace import read_table


def listed(
    store: Store, *paths: Path | str, cluster: Cluster | None = None, name: str = "x", **more: Any
) -> Manifest:
    given = {"source": "x", "paths": [str(path) for path in paths], **more}
    spec = StageSpec(stage="list_urls", artifact=Ref(name=f"listing/{name}", version="v"), parameters=given)
    return materialize(spec, store, cluster or InlineCluster(), force=True)


def rows_of(store: Store, made: Manifest, role: str = "rows") -> list[dict[str, Any]]:
    return [
        row for part in made.parts if role in part.files for row in read_table(store, made, part, role).to_pylist()
    ]


def reasons(store: Store, made: Manifest) -> dict[int, str]:
    """Return the reason of each rejected row by its number, and check that no row is missing."""
    found = {row["source_row"]: row["reason"] for row in rows_of(store, made, "rejected")}
    assert made.ledger.listed == made.ledger.kept + len(rows_of(store, made, "rejected"))
    assert sum(made.totals["rejected"].values()) == made.ledger.rejected == len(rows_of(store, made, "rejected"))
    assert made.ledger.kept == len(rows_of(store, made)) and verify(store, made) == []
    return found
