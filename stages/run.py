"""Entry point inside a Ray job: `python -m stages.run SPEC`, where SPEC is a key in the store."""

import argparse
import logging
import os
import sys
from collections.abc import Callable

from infra.cluster import Cluster, InlineCluster, RayCluster, ResourceError
from infra.settings import settings
from infra.storage import StorageError, Store, StoreUnavailable
from stages.manifest import Manifest, ManifestError
from stages.materialize import Drift, StageSpec, materialize
from stages.training.presence import LostPeer
from stages.training.stopping import Stopped


def main(arguments: list[str] | None = None) -> int:
    """Run one stage; see `exit_code`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", help="key of a stage spec in the store")
    parser.add_argument("--store", default=settings().store_root)
    parser.add_argument("--force", action="store_true", help="replace a finished version")
    parser.add_argument("--inline", action="store_true", help="run in this process, without Ray")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stdout)

    def make() -> Manifest:
        cluster: Cluster = InlineCluster() if given.inline else RayCluster()
        store = Store(given.store)
        spec = StageSpec.model_validate_json(store.read(given.spec))
        return materialize(spec, store, cluster, force=given.force)

    return exit_code(make)


def exit_code(make: Callable[[], Manifest]) -> int:
    """Make an artifact, and print how that ended.

    Returns:
        0 when it stands, 2 when it was refused with a reason, 75 (EX_TEMPFAIL) when the store or a
        process of a training did not answer, or a training was asked to stop and has saved: the
        same command goes on later. Any other error is a fault of the code, and raised.
    """
    try:
        manifest = make()
    except (StoreUnavailable, LostPeer, Stopped) as later:
        print(f"later: {later}", flush=True)
        return os.EX_TEMPFAIL
    except (Drift, ManifestError, ResourceError, StorageError) as refusal:
        print(f"refused: {refusal}", flush=True)
        return 2
    print(f"{manifest.ref} {manifest.digest[:16]} {manifest.ledger.model_dump()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
