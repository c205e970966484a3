"""What a run can do without: notes for people beside what it makes."""

import logging

from infra.storage import StorageError, Store

log = logging.getLogger(__name__)


def store_aside(store: Store, key: str, data: bytes) -> None:
    """Write something that a run can do without; where the store fails it is said, and the run goes on."""
    try:
        store.write(key, data)
    except (StorageError, OSError) as error:
        log.warning("%s is not written: %s", key, error)
