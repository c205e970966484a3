"""A published system is named once: which chat model a version has is remembered from its first run on."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.settings import settings
from infra.storage import Store
from pipelines import schedule
from pipelines.changes import select
from pipelines.graph import Step, with_version
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import OwnData
from pipelines.remembered import remember_system
from stages.manifest import ManifestError


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)


def ours(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.spec.stage in ("instruct", "conversations")]


@pytest.mark.parametrize("recipe", [RecipeName.ONE_GPU, RecipeName.PAPER])
def test_a_system_is_named_once_for_each_version(recipe: RecipeName) -> None:
    store, own = Store(settings().store_root), OwnData(system="InternVL2-2B")
    usual = steps_of(FlowName.TRAIN, recipe, "mine")
    asked = steps_of(FlowName.TRAIN, recipe, "mine", own)
    assert steps_of(FlowName.TRAIN, recipe, "mine") == usual, "planning alone is not remembered"
    remember_system([step for step in asked if step.spec.stage != "instruct"], store)
    assert steps_of(FlowName.TRAIN, recipe, "mine") == usual, "nor is what the chat model has no part in"
    remember_system(asked, store)
    assert steps_of(FlowName.TRAIN, recipe, "mine") == asked != usual
    assert ours(steps_of(FlowName.TRAIN, recipe, "other")) != ours(asked), "another version has its own"
    _, again = select(asked, "instruct", ["instruct"], {"max_dynamic_patch": 3})
    remember_system(with_version(asked, again, "fewer"), store)
    assert {step.system for step in steps_of(FlowName.TRAIN, recipe, "fewer")} == {"InternVL2-2B"}
    changed = steps_of(FlowName.TRAIN, recipe, "mine", OwnData(system="InternVL-Chat-V1-5"))
    remember_system(changed, store)
    assert steps_of(FlowName.TRAIN, recipe, "mine") == changed, "what is named later takes its place"


def test_a_run_keeps_its_system_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(step: Step, **_: object) -> None:
        raise RuntimeError(f"{step.label} was killed")

    monkeypatch.setattr(schedule, "run_step", SimpleNamespace(submit=submit))
    monkeypatch.setattr(schedule, "preflight", lambda *_: None)
    asked = steps_of(FlowName.TRAIN, RecipeName.ONE_GPU, "", OwnData(system="InternVL2-2B"))
    with pytest.raises(RuntimeError, match="was killed"):
        schedule.run_steps(asked)
    assert steps_of(FlowName.TRAIN, RecipeName.ONE_GPU) == asked
    key = "systems/one_gpu.json"
    Store(settings().store_root).write(key, b'{"system": "InternVL2-8B", "digest": "0"}')
    with pytest.raises(ManifestError, match=rf"{key} cannot be read: .* name the system again with --system"):
        steps_of(FlowName.TRAIN, RecipeName.ONE_GPU)
