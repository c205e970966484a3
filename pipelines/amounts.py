"""What a step of a plan reads, asks of the web, writes and computes; and that of an artifact that stands."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.storage import Store
from pipelines.rates import bytes_of, cpu_seconds
from stages.manifest import Manifest, find
from stages.ref import Ref


@dataclass(frozen=True)
class Amounts:
    """What one step handles; None is not known."""

    step: str
    artifact: str
    group: str
    """Steps that differ in their source alone are of one group."""
    rows_in: int | None = None
    rows_out: int | None = None
    requests: int | None = 0
    gigabytes_in: float | None = None
    gigabytes_out: float | None = None
    cpu_hours: float | None = None
    gpu_hours: float | None = 0.0
    source: str = ""
    """How it is known."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def standing(made: Manifest, inputs: Sequence[Ref], store: Store) -> dict[str, Any]:
    """Return the amounts of an artifact as it was made, GPU hours aside; by the names of `Amounts`.

    Args:
        made: The artifact.
        inputs: What it was made from; what a takedown or a sweep took away is not counted.
        store: Where both stand.
    """
    downloads, seconds = made.stage == "download", cpu_seconds(made, store)
    read = [found for ref in inputs if (found := find(store, ref))]
    taken = made.totals.get("bytes_in") if downloads else sum(bytes_of(each) for each in read)
    return {
        "rows_in": made.ledger.listed,
        "rows_out": made.ledger.kept,
        "requests": made.totals.get("ladder", {}).get("attempted") if downloads else 0,
        "gigabytes_in": None if taken is None else taken / 1e9,
        "gigabytes_out": bytes_of(made) / 1e9,
        "cpu_hours": None if seconds is None else seconds / 3600,
        "source": "as it stands",
    }
