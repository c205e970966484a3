"""Of two runs that make one artifact, one is refused; one that comes late cannot finish it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from infra.cluster import InlineCluster
from infra.lease import Lease
from infra.storage import Store
from stages import materialize as module
from stages.manifest import Ledger, Manifest, ManifestError, find
from stages.materialize import StageSpec, materialize
from stages.output import Output, lease_of
from stages.ref import Ref
from stages.workspace import Workspace

REF = Ref(name="pool/x", version="v1")
SPEC = StageSpec(stage="toy", artifact=REF, parameters={})


class Toy:
    """A stage that commits one part, after something happened meanwhile."""

    VERSION = 1

    class Parameters(BaseModel):
        """None."""

    def __init__(self, meanwhile: Any = lambda: None) -> None:
        self.meanwhile = meanwhile

    def run(self, _: BaseModel, output: Output, here: Workspace) -> Manifest:
        part = output.part("0", "d", Ledger(listed=1, kept=1), {"rows": ("0.bin", b"row")})
        self.meanwhile()
        return output.commit([part])


def make(store: Store, monkeypatch: pytest.MonkeyPatch, meanwhile: Any = lambda: None, **options: bool) -> Manifest:
    toy = Toy(meanwhile)
    monkeypatch.setattr(module, "module_of", lambda _: toy)
    return materialize(SPEC, store, InlineCluster(), **options)


def test_a_second_run_is_refused_while_the_first_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, told = Store(str(tmp_path)), []

    def rival() -> None:
        with pytest.raises(ManifestError, match=r"pool/x/v1 is being written by a command .* stop it, or") as held:
            materialize(SPEC, store, InlineCluster())
        told.append(held)

    assert make(store, monkeypatch, rival).ledger.kept == 1
    assert len(told) == 1
    assert make(store, monkeypatch) == find(store, REF), "what stands needs no lease"
    assert make(store, monkeypatch, force=True) == find(store, REF), "the lease was given back"


def test_a_run_that_was_taken_over_cannot_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))

    def taken_over() -> None:
        (key,) = store.keys(lease_of(REF))
        store.write(key, b"{}")  # its holder says nothing of itself any more
        Lease.take(store, lease_of(REF), "the next run", ttl_seconds=0).give_back()

    with pytest.raises(ManifestError, match="taken over: lease 2, not 1; the run that holds it goes on"):
        make(store, monkeypatch, taken_over)
    assert find(store, REF) is None
    assert not store.exists(REF.key("recipe.json")), "nor does it write what the next run writes"
    assert make(store, monkeypatch).ledger.kept == 1, "the next run finishes it"


def test_only_the_first_process_of_a_torchrun_asks_for_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    first = Lease.take(store, lease_of(REF), "the first process")
    monkeypatch.setenv("RANK", "1")
    assert make(store, monkeypatch).ledger.kept == 1
    first.give_back()
