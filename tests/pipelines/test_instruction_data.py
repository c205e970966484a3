"""Instruction data of a user's own on the road: named once, an artifact for each source, mixed as told."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console

from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines import schedule
from pipelines.changes import select
from pipelines.graph import Step, with_version
from pipelines.names import FlowName, Mixing, RecipeName
from pipelines.options import own_data
from pipelines.pages import markdown
from pipelines.plan import steps_of
from pipelines.recipes import OwnData, make
from pipelines.remembered import remember_sources
from pipelines.summary import summary
from stages.manifest import ManifestError, find
from stages.materialize import Drift, materialize
from stages.output import Output
from stages.training.order import Weight


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    return tmp_path


def row(number: int, answer: str = "red") -> dict[str, object]:
    turns = [{"from": "human", "value": "<image>\nWhat colour?"}, {"from": "gpt", "value": answer}]
    return {"id": number, "image": "a.png", "conversations": turns}


@pytest.fixture
def own(home: Path) -> OwnData:
    """Return a meta file with two sources, and LLaVA's JSON."""
    Image.new("RGB", (8, 8)).save(home / "a.png")
    for name, count in (("first", 20), ("second", 8)):
        (home / f"{name}.jsonl").write_text("\n".join(json.dumps(row(number)) for number in range(count)))
    meta = {
        "first": {"root": ".", "annotation": "first.jsonl", "repeat_time": 0.5},
        "second": {"root": ".", "annotation": "second.jsonl", "repeat_time": 4},
    }
    (home / "meta.json").write_text(json.dumps(meta))
    (home / "llava.json").write_text(json.dumps([row(1), row(2), row(3, "")]))
    return OwnData(conversations=(str(home / "meta.json"), str(home / "llava.json")), conversation_root=str(home))


def told(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.spec.stage == "conversations"]


@pytest.mark.parametrize("recipe", [RecipeName.PHOTOS, RecipeName.ONE_GPU, RecipeName.PAPER])
def test_each_source_is_an_artifact_and_the_chat_model_reads_all(recipe: RecipeName, own: OwnData) -> None:
    steps = steps_of(FlowName.TRAIN, recipe, "", own)
    names = ["conversations/first", "conversations/second", "conversations/llava"]
    assert [step.artifact for step in told(steps)] == names
    taught = [step.spec for step in steps if step.spec.stage == "instruct"]
    assert len(taught) == 1 + (recipe is RecipeName.PAPER), "the paper's is aligned first"
    shares = sorted(zip(names, (1.0, 4.0, 1.0), strict=True))
    for each in taught:
        assert [ref.name for ref in each.inputs][:3] == names
        assert [(share["name"], share["repeat"]) for share in each.parameters["mixture"]] == shares
    assert not any(step.spec.inputs for step in told(steps)), "they wait for nothing"


def test_square_roots_are_a_matter_of_the_mixture(own: OwnData) -> None:
    recipe = make(RecipeName.PHOTOS, own.model_copy(update={"mixing": Mixing.SQUARE_ROOT}))
    assert recipe.instruct.mixture[2] == Weight(name="conversations/second", square_root=4.0)
    assert [each.of(100) for each in recipe.instruct.mixture] == [10.0, 10.0, 20.0]


def begin(own: OwnData, version: str = "", force: bool = False) -> list[Step]:
    """Do what a run does before its first step."""
    steps = steps_of(FlowName.TRAIN, RecipeName.PHOTOS, version, own)
    remember_sources(steps, Store(settings().store_root), force)
    return steps


def test_a_run_that_stopped_early_is_remembered_whole_and_in_order(home: Path, own: OwnData) -> None:
    store = Store(settings().store_root)
    (home / "a.jsonl").write_text(json.dumps(row(1)))
    first = begin(own.model_copy(update={"conversations": (*own.conversations, str(home / "a.jsonl"))}))
    assert materialize(told(first)[1].spec, store, InlineCluster(), progress=False).ledger.kept == 8
    assert steps_of(FlowName.TRAIN, RecipeName.PHOTOS) == first, "evaluations and mixture too"
    again = steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "", OwnData(mixing=Mixing.SQUARE_ROOT))
    assert [step.spec for step in told(again)] == [step.spec for step in told(first)]
    (tuned,) = (step.spec for step in again if step.spec.stage == "instruct")
    assert [each["square_root"] for each in tuned.parameters["mixture"]] == [1.0, 1.0, 1.0, 4.0]
    assert told(steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "other"))[0].artifact == "conversations"


def test_what_is_named_later_takes_the_place_of_all_that_was_named_before(home: Path, own: OwnData) -> None:
    steps = begin(own)
    for step in told(steps):
        commit(step)
    assert len(told(begin(own.model_copy(update={"conversations": (str(home / "llava.json"),)})))) == 1
    assert [step.artifact for step in told(begin(OwnData()))] == ["conversations/llava"]
    commit(next(step for step in steps if step.spec.stage == "instruct"))
    with pytest.raises(Drift, match=r"other instruction data: llava -> first, second, llava\n.*--version NAME"):
        begin(own)
    assert len(told(begin(OwnData()))) == 1, "what is refused is not remembered"
    assert len(told(begin(own, force=True))) == 3 and len(told(begin(OwnData()))) == 3


def test_a_rerun_changes_what_it_makes_and_makes_no_whole_of_a_part(home: Path, own: OwnData) -> None:
    store, first = Store(settings().store_root), begin(own)
    _, wanted = select(first, "conversations", ["second"], {"own.repeat": 2})
    remember_sources(wanted, store)
    assert [step.spec.parameters["own"]["repeat"] for step in told(begin(OwnData()))] == [0.5, 2, 1]
    part = with_version(first, wanted, "part")
    remember_sources(part, store)
    commit(part[0])
    with pytest.raises(ManifestError, match=r"conversations/second@part stands, and what else .* name all of its"):
        steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "part")


def commit(step: Step) -> None:
    """Let an artifact stand, empty."""
    store = Store(settings().store_root)
    identity = {"stage": step.spec.stage, "parameters": step.spec.parameters}
    Output(store=store, ref=step.spec.artifact, stage=step.spec.stage, identity=identity).commit([])


def test_it_is_kept_before_the_first_step_starts(home: Path, own: OwnData, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(step: Step, **_: object) -> None:
        raise RuntimeError(f"{step.label} was killed")

    monkeypatch.setattr(schedule, "run_step", SimpleNamespace(submit=submit))
    with pytest.raises(RuntimeError, match="conversations first was killed"):
        schedule.run_steps(told(steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "", own))[:1])
    assert not Store(settings().store_root).exists("instruction_data/photos.json"), "of a part nothing is kept"
    steps = steps_of(FlowName.INTERNVL, RecipeName.PHOTOS, "", own.model_copy(update={"images": str(home)}))
    with pytest.raises(RuntimeError, match="was killed"):
        schedule.run_steps(steps)
    assert len(told(steps_of(FlowName.TRAIN, RecipeName.PHOTOS))) == 3


def test_a_damaged_memory_is_refused(own: OwnData) -> None:
    begin(own)
    Store(settings().store_root).write("instruction_data/photos.json", b'{"sources": [], "digest": "0"}')
    with pytest.raises(ManifestError, match=r"instruction_data/photos\.json cannot be read: .* name all instruction"):
        steps_of(FlowName.TRAIN, RecipeName.PHOTOS)


def test_changed_files_are_seen(home: Path, own: OwnData) -> None:
    first = told(steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "", own))
    (home / "first.jsonl").write_text(json.dumps(row(7)))
    changed = told(steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "", own))
    assert [one.spec == other.spec for one, other in zip(first, changed, strict=True)] == [False, True, True]


def test_bad_rows_are_told_on_the_terminal_and_on_the_page(home: Path, own: OwnData) -> None:
    store = Store(settings().store_root)
    step = told(steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "", own))[2]
    spec = step.spec.model_copy(deep=True)
    spec.parameters["own"]["most_bad"] = 0.5
    made = materialize(spec, store, InlineCluster(), progress=False)
    out = io.StringIO()
    summary(Console(file=out, width=300), store, [str(made.ref)], {})
    assert "conversations/llava: 1 of 3 rows are left out (1 empty_turn); they are listed in" in out.getvalue()
    assert f"{home / 'llava.json'}, line 1: empty_turn: turn 2 of gpt is empty" in out.getvalue()
    page = markdown(step.label, made, "http://reports")
    assert "| empty turn | 1 |" in page and "[Open the bad rows](http://reports/" in page
    assert find(store, made.ref) == made


def test_what_a_recipe_does_not_take_or_cannot_tell_apart_is_refused(home: Path, own: OwnData) -> None:
    with pytest.raises(ValueError, match="photos, one_gpu and paper take --conversations"):
        make(RecipeName.TINY, own)
    twice = own.model_copy(update={"conversations": (str(home / "llava.json"),) * 2})
    with pytest.raises(ManifestError, match="two sources of instruction data are called llava"):
        make(RecipeName.PHOTOS, twice)
    gone = own.model_copy(update={"conversations": (str(home / "gone.json"),)})
    with pytest.raises(ManifestError, match=r"there is no file .*gone\.json"):
        make(RecipeName.PHOTOS, gone)


def test_local_names_become_absolute(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    given = own_data(
        None, "url", "text", None, None, conversations=["q.json,a.json", "b.jsonl"], conversation_root="pictures"
    )
    assert given.conversations == (f"{home}/q.json,{home}/a.json", f"{home}/b.jsonl")
    assert given.conversation_root == f"{home}/pictures" and given.mixing is Mixing.REPEAT
    (home / "a,b.jsonl").touch()
    given = own_data(None, "url", "text", None, None, conversations=["a,b.jsonl", "store://q.json,store://a.json"])
    assert given.conversations == (f"{home}/a,b.jsonl", "store://q.json,store://a.json")


def test_instruction_data_of_the_store_is_made_into_conversations(home: Path, own: OwnData) -> None:
    store = Store(settings().store_root)
    for name in ("meta.json", "first.jsonl", "second.jsonl", "a.png"):
        store.write(f"given/{name}", (home / name).read_bytes())
    named = own.model_copy(update={"conversations": ("store://given/meta.json",), "conversation_root": None})
    (_, step) = told(steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "", named))
    assert materialize(step.spec, store, InlineCluster(), progress=False).ledger.kept == 8
