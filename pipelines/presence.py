"""Whether a flow run's process lives: a lease in the store, held for as long as it works."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.runtime import flow_run as current_flow

from infra import lease
from infra.lease import Lease, Tenure, newest
from infra.settings import settings
from infra.storage import StorageError, Store

FOLDER = "leases/flow_runs"

log = logging.getLogger(__name__)


@contextmanager
def present() -> Iterator[None]:
    """Say for the time of the block that the process of this flow run lives; outside of one, nothing."""
    if not (run := current_flow.id):
        yield
        return
    store = Store(settings().store_root)
    held = Lease.take(store, f"{FOLDER}/{run}", f"flow run {current_flow.name}")
    try:
        yield
    finally:
        held.give_back()
        try:
            forget(store, str(run), held.number)
        except (StorageError, OSError) as error:
            # The work of the run is done; the reaper removes what is left.
            log.warning("the lease of flow run %s is left: %s", run, error)


def tenures(store: Store) -> dict[str, Tenure]:
    """Return the lease of each flow run that holds one or died with it."""
    found = {run: newest(store, f"{FOLDER}/{run}") for run in store.folders(FOLDER)}
    return {run: tenure for run, tenure in found.items() if tenure is not None}


def forget(store: Store, run: str, number: int) -> None:
    """Remove the lease of a run that is over; that of a process which goes on with it since then stays."""
    lease.forget(store, f"{FOLDER}/{run}", number)
