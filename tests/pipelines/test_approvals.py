"""The approval gate: asked after the filters, bound to their digests, kept beside the shards, asked once."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.storage import Store
from pipelines import gate
from pipelines.approvals import Decision, Rejected, approved, decisions, digests_of, dropped_by, funnel, keep, split
from pipelines.graph import Step
from stages.manifest import Ledger, Manifest, ManifestError
from stages.materialize import StageSpec
from stages.output import Output
from stages.ref import Ref

ROAD = (
    ("score", "signals/own"),
    ("filter", "verdicts/clean/own"),
    ("write_shards", "shards/clean"),
    ("contrastive", "checkpoints/contrastive"),
)
SHARDS = Ref(name="shards/clean", version="v1")


def road() -> list[Step]:
    return [
        Step(stage, StageSpec(stage=stage, artifact=Ref(name=name, version="v1"), parameters={}))
        for stage, name in ROAD
    ]


def verdicts(store: Store, kept: int = 3) -> Manifest:
    output = Output(store, Ref(name="verdicts/clean/own", version="v1"), "filter", {"kept": kept})
    part = output.part("0", str(kept), Ledger(listed=9, kept=kept, rejected=9 - kept), {"rows": ("0.bin", b"x")})
    totals = {"judged": 9, "kept": kept, "reasons": {"too_small": 9 - kept, "no_words": 0}}
    store.remove(output.ref.key("manifest.json"))
    return output.commit([part], totals=totals)


class Gate:
    """A gate whose steps are counted and whose person answers as told."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(str(tmp_path / "store"))
        self.ran: list[list[str]] = []
        self.asked: list[str] = []
        self.answer: Any = SimpleNamespace(approve=True, note="looks right", who="Ada")
        monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
        monkeypatch.setattr(gate, "preflight", lambda *_: None)
        monkeypatch.setattr(gate, "run_steps", self.run)
        monkeypatch.setattr(gate, "pause_flow_run", self.ask)
        monkeypatch.setattr(gate, "suspend_flow_run", self.never)
        monkeypatch.setattr(gate, "get_run_logger", lambda: SimpleNamespace(info=lambda *_: None))

    def run(self, steps: list[Step], force: bool) -> list[str]:
        self.ran.append([step.artifact for step in steps])
        return [str(step.spec.artifact) for step in steps]

    def never(self, **_: Any) -> Any:
        raise AssertionError("only a run of a deployment can be suspended")

    def ask(self, wait_for_input: Any, **_: Any) -> Any:
        self.asked.append(wait_for_input._description)
        return self.answer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(tmp_path, monkeypatch)


def test_a_person_sees_the_funnel_and_training_follows_the_approval(world: Gate) -> None:
    made = verdicts(world.store)
    refs = gate.run_with_approval(road())
    assert world.ran == [["signals/own", "verdicts/clean/own"], ["shards/clean", "checkpoints/contrastive"]]
    assert refs == [f"{name}@v1" for _, name in ROAD]
    assert "| clean own | 9 | 3 | 33.3% |" in world.asked[0]
    assert (
        "[verdicts/clean/own@v1](http://127.0.0.1:18090/verdicts/clean/own/v1/): dropped by too small 6"
        in (world.asked[0])
    )
    (kept,) = decisions(world.store, SHARDS)
    assert (kept.approved, kept.note, kept.who, kept.verdicts) == (True, "looks right", "Ada", digests_of([made]))


def test_what_was_approved_is_not_asked_again_and_another_result_is(world: Gate) -> None:
    verdicts(world.store)
    gate.run_with_approval(road())
    gate.run_with_approval(road())
    assert len(world.asked) == 1
    verdicts(world.store, kept=4)
    gate.run_with_approval(road())
    assert len(world.asked) == 2


def test_a_rejection_trains_nothing_and_is_asked_again(world: Gate) -> None:
    verdicts(world.store)
    world.answer = SimpleNamespace(approve=False, note="too few", who="")
    with pytest.raises(Rejected, match=r"rejected by somebody, .*: too few; nothing was trained"):
        gate.run_with_approval(road())
    assert world.ran == [["signals/own", "verdicts/clean/own"]]
    world.answer = SimpleNamespace(approve=True, note="", who="Bob")
    gate.run_with_approval(road())
    assert [each.approved for each in decisions(world.store, SHARDS)] == [False, True]


def test_a_run_of_a_deployment_is_suspended(world: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts(world.store)
    monkeypatch.setattr(gate, "deployment", SimpleNamespace(id="some"))
    monkeypatch.setattr(gate, "suspend_flow_run", world.ask)
    monkeypatch.setattr(gate, "pause_flow_run", world.never)
    gate.run_with_approval(road())
    assert len(world.asked) == 1


def test_what_a_person_is_asked_for_is_noticed(world: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(gate.notices, "send", lambda event, *_: told.append(event))
    verdicts(world.store)
    gate.run_with_approval(road())
    assert told == ["approval needed"]


def test_without_a_filter_there_is_nothing_to_approve() -> None:
    with pytest.raises(ValueError, match="nothing here filters"):
        split(road()[2:])


def decision(**given: Any) -> Decision:
    return Decision.model_validate({"approved": True, "verdicts": {"v@1": "d"}, "when": time.time(), **given})


def test_a_later_rejection_takes_an_approval_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    keep(store, SHARDS, decision(flow_run="1"))
    keep(store, SHARDS, decision(flow_run="1"))
    assert len(decisions(store, SHARDS)) == 1, "a suspended flow tells its decision again"
    assert approved(store, SHARDS, {"v@1": "d"})
    assert approved(store, SHARDS, {"v@1": "other"}) is None
    keep(store, SHARDS, decision(flow_run="2", approved=False))
    assert approved(store, SHARDS, {"v@1": "d"}) is None


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data.replace(b"true", b"false")])
def test_a_damaged_approval_approves_nothing(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    store = Store(str(tmp_path))
    keep(store, SHARDS, decision())
    key = SHARDS.key("approvals.json")
    store.write(key, damage(store.read(key)))
    with pytest.raises(ManifestError, match=r"approvals\.json cannot be read.*remove it"):
        approved(store, SHARDS, {"v@1": "d"})


def test_a_filter_that_judged_nothing_is_shown_too(tmp_path: Path) -> None:
    made = verdicts(Store(str(tmp_path)))
    none = made.model_copy(update={"totals": {"judged": 0, "kept": 0, "reasons": {}}})
    assert "| clean own | 0 | 0 | – |" in funnel([none])
    assert dropped_by(none) == "nothing"
