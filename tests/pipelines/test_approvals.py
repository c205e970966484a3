"""The approval gate: asked after the filters, bound to their digests, kept beside the shards, asked once."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.states import Cancelled, Cancelling, Crashed, Running
from typer.testing import CliRunner

from infra.storage import Store
from pipelines import gate
from pipelines.approvals import Decision, Rejected, approved, decisions, digests_of, dropped_by, funnel, keep, split
from pipelines.cli import app
from pipelines.graph import Step
from pipelines.names import Answer
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
        self.keys: list[str] = []
        self.meanwhile: list[Callable[[], object]] = []
        self.answer: Any = SimpleNamespace(answer=Answer.APPROVE, note="looks right", who="Ada")
        monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
        monkeypatch.setattr(gate, "preflight", lambda *_: None)
        monkeypatch.setattr(gate, "run_steps", self.run)
        monkeypatch.setattr(gate, "_answer_here", self.ask_here)
        monkeypatch.setattr(gate, "suspend_flow_run", self.never)
        monkeypatch.setattr(gate, "get_run_logger", lambda: SimpleNamespace(info=lambda *_: None))

    def run(self, steps: list[Step], force: bool) -> list[str]:
        self.ran.append([step.artifact for step in steps])
        return [str(step.spec.artifact) for step in steps]

    def never(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("only a run of a deployment is suspended, and it does not wait in its process")

    def ask(self, wait_for_input: Any, **_: Any) -> Any:
        self.asked.append(wait_for_input._description)
        self.meanwhile.pop(0)() if self.meanwhile else None
        return self.answer

    async def ask_here(self, form: Any, key: str) -> Any:
        self.keys.append(key)
        return self.ask(form)


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
    world.answer = SimpleNamespace(answer=Answer.REJECT, note="too few", who="")
    with pytest.raises(Rejected, match=r"rejected by somebody, .*: too few; nothing was trained"):
        gate.run_with_approval(road())
    assert world.ran == [["signals/own", "verdicts/clean/own"]]
    world.answer = SimpleNamespace(answer=Answer.APPROVE, note="", who="Bob")
    gate.run_with_approval(road())
    assert [each.approved for each in decisions(world.store, SHARDS)] == [False, True]


def test_a_run_of_a_deployment_is_suspended(world: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts(world.store)
    monkeypatch.setattr(gate, "deployment", SimpleNamespace(id="some"))
    monkeypatch.setattr(gate, "suspend_flow_run", world.ask)
    monkeypatch.setattr(gate, "_answer_here", world.never)
    gate.run_with_approval(road())
    assert len(world.asked) == 1


def test_what_a_person_is_asked_for_is_noticed(world: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(gate.notices, "send", lambda event, *_: told.append(event))
    verdicts(world.store)
    gate.run_with_approval(road())
    assert told == ["approval needed"]


def test_what_changed_while_a_person_thought_is_asked_about_again(world: Gate) -> None:
    verdicts(world.store)
    world.meanwhile = [lambda: verdicts(world.store, kept=5)]
    gate.run_with_approval(road())
    assert ["| 3 | 33.3% |" in world.asked[0], "| 5 | 55.6% |" in world.asked[1]] == [True, True]
    assert len(world.asked) == 2 and world.keys[0] != world.keys[1]
    assert len(world.ran) == 2, "trained once, on what was approved last"


class Server:
    """What the gate asks Prefect: how often the run began, what it asked, and its state."""

    def __init__(self) -> None:
        self.run_count, self.inputs, self.state = 1, list[str](), Running()
        self.ended: list[Any] = []

    def client(self, sync_client: bool = False) -> Any:
        found = SimpleNamespace(
            filter_flow_run_input=lambda _, prefix, **__: [each for each in self.inputs if each.startswith(prefix)],
            read_flow_run=lambda _: SimpleNamespace(run_count=self.run_count, state=self.state),
        )
        return nullcontext(found) if sync_client else Later(self)


class Later:
    """The same, asked by who does something else meanwhile."""

    def __init__(self, server: Server) -> None:
        self.server = server

    async def __aenter__(self) -> "Later":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def read_flow_run(self, _: object) -> Any:
        return SimpleNamespace(state=self.server.state)

    async def set_flow_run_state(self, _: object, state: Any, force: bool) -> None:
        self.server.ended.append((state.type.value, force))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setattr(gate, "get_client", found.client)
    monkeypatch.setattr(gate, "current_flow", SimpleNamespace(id=str(uuid4()), name="some-run"))
    return found


def test_a_retried_run_asks_anew_and_makes_nothing_a_second_time(world: Gate, server: Server) -> None:
    forced: list[bool] = []
    monkey = world.run

    def run(steps: list[Step], force: bool) -> list[str]:
        forced.append(force)
        return monkey(steps, force)

    world.answer = SimpleNamespace(answer=Answer.REJECT, note="", who="")
    verdicts(world.store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "run_steps", run)
        with pytest.raises(Rejected):
            gate.run_with_approval(road(), force=True)
        server.run_count, server.inputs = 2, [f"paused-{world.keys[0]}-schema"]
        with pytest.raises(Rejected):
            gate.run_with_approval(road(), force=True)
    assert world.keys[0] != world.keys[1], "Prefect takes each name of a question once in a run"
    assert forced == [True, False]


def test_each_question_is_told_once(world: Gate, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(gate.notices, "send", lambda event, *_: told.append(event))
    made = verdicts(world.store)
    gate._ask([made])
    server.inputs = [f"paused-{world.keys[0]}-schema"]
    gate._ask([made])
    gate._ask([verdicts(world.store, kept=4)])
    assert len(told) == 2, "the same question of a run that goes on is no news, another one is"


@pytest.mark.parametrize(
    ("state", "ended"), [(Cancelling(), [("CANCELLED", True)]), (Cancelled(), []), (Crashed(), [])]
)
def test_a_run_that_is_ended_at_the_gate_does_not_wait_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, state: Any, ended: list[Any]
) -> None:
    async def pause(**_: Any) -> Any:
        await asyncio.sleep(600)

    monkeypatch.setattr(gate, "apause_flow_run", pause)
    monkeypatch.setattr(gate, "POLL_SECONDS", 0.01)
    server.state = state
    with pytest.raises(gate.EndedMeanwhile, match="ended while it waited for an approval; nothing was trained"):
        asyncio.run(gate._answer_here(gate.Approval, "approval-x"))
    assert server.ended == ended


def test_an_answer_at_the_gate_is_returned(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def pause(key: str, **_: Any) -> Any:
        await asyncio.sleep(0.05)
        return key

    monkeypatch.setattr(gate, "apause_flow_run", pause)
    monkeypatch.setattr(gate, "POLL_SECONDS", 0.01)
    assert asyncio.run(gate._answer_here(gate.Approval, "approval-x")) == "approval-x"


def test_without_a_filter_there_is_nothing_to_approve() -> None:
    with pytest.raises(ValueError, match="nothing here filters"):
        split(road()[2:])


def test_where_nothing_follows_the_filters_nobody_is_asked(world: Gate) -> None:
    with pytest.raises(ValueError, match=r"nothing here follows the filters.*--after"):
        gate.run_with_approval(road()[:2])
    assert not world.ran and not world.asked


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


def test_decisions_that_are_kept_at_once_are_all_kept(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda run: keep(store, SHARDS, decision(flow_run=str(run))), range(4)))
    assert {each.flow_run for each in decisions(store, SHARDS)} == {"0", "1", "2", "3"}


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
    assert dropped_by(none) == "nothing dropped"


def test_a_rejection_is_shown_although_nothing_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_STORE", str(tmp_path / "store"))
    store = Store(str(tmp_path / "store"))
    named = digests_of([verdicts(store)])
    keep(store, SHARDS, Decision(approved=False, note="half of it is ads", who="Ada", verdicts=named, when=0.0))
    shown = CliRunner().invoke(app, ["show", str(SHARDS)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines() == [
        "shards/clean@v1 was not written",
        "rejected by Ada, 1970-01-01 00:00 UTC: half of it is ads",
    ]
    assert CliRunner().invoke(app, ["show", "shards/clean@v2"]).exit_code == 2
