"""Instruction data of a user's own on the road: named once, an artifact for each source, mixed as told."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines.graph import Step
from pipelines.names import FlowName, Mixing, RecipeName
from pipelines.options import own_data
from pipelines.pages import markdown
from pipelines.plan import steps_of
from pipelines.recipes import OwnData, make
from pipelines.summary import summary
from stages.manifest import ManifestError, find
from stages.materialize import materialize
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
    shares = list(zip(names, (1.0, 4.0, 1.0), strict=True))
    for each in taught:
        assert [ref.name for ref in each.inputs][:3] == names
        assert [(share["name"], share["repeat"]) for share in each.parameters["mixture"]] == shares
    assert not any(step.spec.inputs for step in told(steps)), "they wait for nothing"


def test_square_roots_are_a_matter_of_the_mixture(own: OwnData) -> None:
    recipe = make(RecipeName.PHOTOS, own.model_copy(update={"mixing": Mixing.SQUARE_ROOT}))
    assert recipe.instruct.mixture[1] == Weight(name="conversations/second", square_root=4.0)
    assert [each.of(100) for each in recipe.instruct.mixture] == [10.0, 20.0, 10.0]


def test_sources_need_to_be_named_once_and_changed_files_are_seen(home: Path, own: OwnData) -> None:
    store = Store(settings().store_root)
    first = told(steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "", own))
    for step in first[:2]:
        assert materialize(step.spec, store, InlineCluster(), progress=False).ledger.kept in (10, 8)
    again = steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "", OwnData(mixing=Mixing.SQUARE_ROOT))
    assert [step.spec for step in told(again)] == [step.spec for step in first[:2]]
    (tuned,) = (step.spec for step in again if step.spec.stage == "instruct")
    assert [each["square_root"] for each in tuned.parameters["mixture"]] == [1.0, 4.0]
    assert told(steps_of(FlowName.TRAIN, RecipeName.PHOTOS, "other"))[0].artifact == "conversations"
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
