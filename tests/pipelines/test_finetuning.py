"""`internvl finetune`: what it prints and what it refuses."""

import json
from pathlib import Path

import pytest
from training_data import make_language, make_shards
from typer.testing import CliRunner

from infra.cluster import InlineCluster
from infra.storage import Store
from pipelines.cli import app
from stages.manifest import load
from stages.materialize import StageSpec, materialize
from stages.ref import Ref

SMALL = {"patch_size": 24, "hidden_size": 24, "intermediate_size": 24, "num_hidden_layers": 1, "embed_dim": 8}
SCHEDULE = {"global_batch_size": 8, "steps": 2, "learning_rate": 0.001}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("INTERNVL_STORE", str(tmp_path / "store"))
    store = Store(str(tmp_path / "store"))
    make_shards(store, samples=24)
    make_language(store)
    inputs = tuple(Ref(name=name, version="t") for name in ("shards/clean", "checkpoints/language"))
    ref = Ref(name="checkpoints/contrastive", version="t")
    given = {**SMALL, "held_out_share": 0.3, "held_out": 8, "schedule": SCHEDULE}
    materialize(StageSpec(stage="contrastive", artifact=ref, parameters=given, inputs=inputs), store, InlineCluster())
    return store


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["finetune", *(str(word) for word in words)])
    return result.exit_code, " ".join(result.output.split())


def test_a_checkpoint_is_tuned_and_told_before_and_after(store: Store, tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"held_out": 8, "schedule": SCHEDULE}))
    words = (
        "checkpoints/contrastive@t",
        "--shards",
        "shards/clean@t",
        "--new-version",
        "tuned",
        "--parameters",
        given,
    )
    code, said = call(*words)
    assert code == 0, said
    made = load(store, Ref(name="checkpoints/contrastive", version="tuned"))
    assert made.ledger.kept == 15 and "checkpoints/contrastive@tuned 15 pairs" in said
    assert made.identity["parameters"]["held_out_share"] == 0.3, "that of the checkpoint, where none is given"
    assert f"text to image R@1 among 8 held out: {made.totals['recall_at_1_text_to_image_before']:.1%} before" in said
    given.write_text(json.dumps({"held_out": 4, "schedule": SCHEDULE}))
    code, said = call(*words)
    assert code == 2 and "held_out: 8 -> 4 choose another --new-version" in said
    assert "--force" not in said and "--version" not in said, "options that this command does not have"


def test_what_it_cannot_do_is_refused(store: Store) -> None:
    start, pairs = "checkpoints/contrastive@t", ("--shards", "shards/clean@t")
    for words, says in (
        ((start, *pairs, "--new-version", "t"), "give --new-version another name"),
        (("checkpoints/language@t", *pairs, "--new-version", "x"), "is no InternVL-C or -G"),
        ((start, "--shards", "shards/clean@absent", "--new-version", "x"), "finished versions: t"),
        ((start, *pairs, "--new-version", "x", "--parameters", "no.json"), "no.json"),
    ):
        code, said = call(*words)
        assert code == 2 and says in said, said
