"""The distill stage: a small encoder comes out, nearer to its teacher, and the other stages take it."""

from pathlib import Path
from typing import Any

import pytest
from test_instruct import make_conversations, small
from test_instruct import run as run_instruct
from training_data import make_contrastive, make_language, make_shards
from typer.testing import CliRunner

from infra.cluster import InlineCluster
from infra.storage import Store
from models.config import INTERN_VIT_300M_448, VisionConfig
from pipelines.cli import app
from stages import distill
from stages.checkpoints import fetch
from stages.manifest import Manifest, ManifestError, load
from stages.pretrained_vision import started
from stages.ref import Ref
from stages.weight_files import open_weights
from stages.workspace import Output, Workspace

STUDENT = VisionConfig(
    image_size=48, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    initializer_factor=1.0, drop_path_rate=0.1,
)  # fmt: skip


def given(**changes: Any) -> distill.Parameters:
    schedule = {"global_batch_size": 8, "steps": 30, "learning_rate": 5e-3, "warmup_steps": 3}
    fields = {"student": STUDENT.model_dump(), "held_out_share": 0.3, "held_out": 8, "layers": 2}
    fields |= {"smallest_crop": 0.6, "schedule": schedule}
    return distill.Parameters.model_validate({**fields, **changes})


@pytest.fixture
def here(store: Store, tmp_path: Path) -> Workspace:
    inputs = {"shards/clean": make_shards(store, samples=40), "checkpoints/contrastive": make_contrastive(store)}
    return Workspace(store, InlineCluster(), tmp_path / "scratch", inputs)


def run(here: Workspace, parameters: distill.Parameters, version: str = "t") -> Manifest:
    ref = Ref(name="checkpoints/encoder", version=version)
    return distill.run(parameters, Output(here.store, ref, "distill", parameters.model_dump()), here)


def test_an_encoder_comes_out_that_instruct_and_contrastive_take(here: Workspace, tmp_path: Path) -> None:
    before = run(here, given(schedule={"global_batch_size": 8, "steps": 1, "learning_rate": 1e-9}), "before")
    made = run(here, given())
    assert made.ledger.kept == 25 and made.totals["held_out"] == 8, "15 of 40 pictures are kept aside"
    assert made.totals["held_out_cosine"] > before.totals["held_out_cosine"] + 0.2
    folder = fetch(here.store, made, tmp_path / "made")
    taken = started(str(folder), STUDENT).state_dict()
    found = open_weights(folder)
    assert found.keys() == taken.keys() and all(bool((found[name] == taken[name]).all()) for name in found)

    chatting = make_conversations(here.store, tmp_path, scenes=24)
    spoken = make_language(here.store)
    inputs = {"conversations": chatting, "checkpoints/encoder": made, "checkpoints/language": spoken}
    there = Workspace(here.store, InlineCluster(), tmp_path / "chat", inputs)
    chat = run_instruct(
        here.store, there, small(encoder="checkpoints/encoder", train_vision=False, held_out=4), version="distilled"
    )
    talks = open_weights(fetch(here.store, chat, tmp_path / "talks"))
    assert all(bool((talks[f"vision_model.{name}"] == value).all()) for name, value in found.items())


def test_what_does_not_fit_is_refused(here: Workspace) -> None:
    for changes, message in (
        ({"layers": 3}, "3 last blocks are to be compared and one of the encoders has 2; change distill.student"),
        ({"student": {**STUDENT.model_dump(), "patch_size": 16}}, "must see the same places"),
        ({"held_out_share": 0.0}, "keeps none of their pictures aside"),
    ):
        with pytest.raises(ManifestError, match=message):
            run(here, given(**changes), "refused")


def test_the_published_student_is_internvit_300m() -> None:
    parameters = distill.published_parameters()
    assert parameters.student == INTERN_VIT_300M_448 and parameters.schedule.precision == "bf16"


def test_the_command_says_how_near_it_came(here: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_STORE", here.store.root)
    quick = given(schedule={"global_batch_size": 8, "steps": 2, "learning_rate": 1e-3})
    (tmp_path / "given.json").write_text(quick.model_dump_json())
    words = ["checkpoints/contrastive@t", "--shards", "shards/clean@t", "--new-version", "mine"]
    result = CliRunner().invoke(app, ["distill", *words, "--parameters", str(tmp_path / "given.json")])
    assert result.exit_code == 0, result.output
    made = load(here.store, Ref(name="checkpoints/encoder", version="mine"))
    says = f"cosine {made.totals['held_out_cosine']:.3f} to the teacher among 8 held out"
    assert says in " ".join(result.output.split())
