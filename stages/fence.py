"""The lease under which an artifact is made: whoever lost it stops, for another run makes the artifact now.

A process that stood still (a laptop's sleep, a machine that was cut off) does not know that it was taken over. So it
looks at the lease where it writes something that counts, and now and then while it works.
"""

import logging
import time
from dataclasses import dataclass, field

from infra import lease
from infra.storage import StorageError, Store
from stages.manifest import ManifestError
from stages.ref import Ref

LOOK_SECONDS = lease.TTL_SECONDS / lease.RENEWALS
"""How often a run that works looks at its lease: as often as it renews it."""

log = logging.getLogger(__name__)


class TakenOver(ManifestError):
    """Another run makes this artifact now; what this one made is kept, and found by that one."""


def lease_of(ref: Ref) -> str:
    """Return where the lease on an artifact lies: beside no artifact, so that a removal of one leaves it."""
    return f"leases/{ref.folder}"


@dataclass
class Fence:
    """One run's number of a lease; safe to send to workers."""

    store: Store
    ref: Ref
    number: int
    """0 where no lease is needed."""
    _looked: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Refuse to go on with what another run took over.

        Raises:
            TakenOver: A higher number stands.
        """
        if not self.number:
            return
        try:
            lease.check(self.store, lease_of(self.ref), self.number)
        except lease.LeaseLost as lost:
            raise TakenOver(f"{lost}; the run that holds it goes on, and finds all parts of this one") from lost

    def glance(self) -> None:
        """Check now and then, however often this is called; a store that does not answer ends no run.

        Raises:
            TakenOver: A higher number stands.
        """
        # Sent to another machine, whose clock began at another time, it looks at once.
        if abs(time.monotonic() - self._looked) < LOOK_SECONDS:
            return
        try:
            self.check()
        except (StorageError, OSError) as error:
            log.warning("the lease on %s cannot be looked at: %s", self.ref, error)
        self._looked = time.monotonic()
