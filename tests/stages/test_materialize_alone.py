"""Of two runs that make one artifact, one is refused; one that comes late cannot finish it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from infra.cluster import InlineCluster
from infra.lease import Lease
from infra.storage import Store, StoreUnavailable
from stages import fence
from stages import materialize as module
from stages.fence import TakenOver, lease_of
from stages.manifest import Ledger, Manifest, ManifestError, Part, find
from stages.materialize import StageSpec, materialize
from stages.output import Output
from stages.ref import Ref
from stages.workspace import Progress, Workspace

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


def taken_over(store: Store) -> None:
    """Give the lease to the next run, as when its holder slept for long."""
    (key,) = store.keys(lease_of(REF))
    store.write(key, b"{}")  # its holder says nothing of itself any more
    Lease.take(store, lease_of(REF), "the next run", ttl_seconds=0).give_back()


def test_a_run_that_was_taken_over_cannot_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(TakenOver, match="taken over: lease 2, not 1; the run that holds it goes on"):
        make(store, monkeypatch, lambda: taken_over(store))
    assert find(store, REF) is None
    assert not store.exists(REF.key("recipe.json")), "nor does it write what the next run writes"
    assert make(store, monkeypatch).ledger.kept == 1, "the next run finishes it"


class Long(Toy):
    """A stage of three parts that is taken over after the first one; no share of its parts may fail."""

    tried: list[str]

    def part(self, item: tuple[str, str, Output]) -> Part:
        key, digest, output = item
        self.tried.append(key)
        made = output.part(key, digest, Ledger(listed=1, kept=1), {"rows": (f"{key}.bin", b"row")})
        if key == "0":
            self.meanwhile()
        return made

    def run(self, _: BaseModel, output: Output, here: Workspace) -> Manifest:
        self.tried = []
        items = [(key, "d", (key, "d", output)) for key in "012"]
        return output.commit(here.map_parts(output, self.part, items, rows=lambda _: 1))


@pytest.mark.parametrize(("looks", "tried"), [(0.0, ["0"]), (3600.0, ["0", "1"])])
def test_a_run_that_was_taken_over_stops_at_progress_or_at_the_next_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: float, tried: list[str]
) -> None:
    store = Store(str(tmp_path))
    stage = Long(lambda: taken_over(store))
    monkeypatch.setattr(module, "module_of", lambda _: stage)
    monkeypatch.setattr(fence, "LOOK_SECONDS", looks)
    patient = SPEC.model_copy(update={"placement": {"max_quarantined_share": 1.0, "part_tries": 3}})
    with pytest.raises(TakenOver, match="lease 2, not 1"):
        materialize(patient, store, InlineCluster())
    assert stage.tried == tried, (
        "that another run works is no fault of a part: it is neither tried again nor left out"
    )


def test_progress_goes_on_where_the_lease_cannot_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(str(tmp_path))
    lease = Lease.take(store, lease_of(REF), "a run")
    progress = Progress(store, REF, lease.number)
    monkeypatch.setattr(fence, "LOOK_SECONDS", 0.0)

    def away(*_: object) -> None:
        raise StoreUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(fence.lease, "check", away)
        progress(1, 2, "parts")
    assert "cannot be looked at: no answer" in caplog.text and store.exists(REF.key("progress.json"))
    lease.give_back()
    progress(2, 2, "parts")
    taken_over(store)
    with pytest.raises(TakenOver):
        progress(2, 2, "parts")


def test_only_the_first_process_of_a_torchrun_asks_for_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    first = Lease.take(store, lease_of(REF), "the first process")
    monkeypatch.setenv("RANK", "1")
    assert make(store, monkeypatch).ledger.kept == 1
    first.give_back()
