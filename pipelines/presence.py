"""Whether a flow run's process lives: a lease in the store, held for as long as it works."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.runtime import flow_run as current_flow

from infra.lease import Lease, Tenure, newest
from infra.settings import settings
from infra.storage import Store

FOLDER = "leases/flow_runs"


@contextmanager
def present() -> Iterator[None]:
    """Say for the time of the block that the process of this flow run lives; outside of one, nothing."""
    if not (run := current_flow.id):
        yield
        return
    store = Store(settings().store_root)
    lease = Lease.take(store, f"{FOLDER}/{run}", f"flow run {current_flow.name}")
    try:
        yield
    finally:
        lease.give_back()
        store.remove(f"{FOLDER}/{run}")


def tenures(store: Store) -> dict[str, Tenure]:
    """Return the lease of each flow run that holds one or died with it."""
    found = {run: newest(store, f"{FOLDER}/{run}") for run in store.folders(FOLDER)}
    return {run: tenure for run, tenure in found.items() if tenure is not None}


def forget(store: Store, run: str) -> None:
    """Remove the lease of a run that is over."""
    store.remove(f"{FOLDER}/{run}")
