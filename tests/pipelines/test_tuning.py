"""`internvl tune`: a chat model is trained further as it was trained, but for what is asked."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_data import make_contrastive, make_language
from typer.testing import CliRunner

from infra.cluster import InlineCluster
from infra.storage import Store
from pipelines.cli import app
from pipelines.tuning import further
from stages.checkpoints import fetch
from stages.evaluations.subject import kind_of
from stages.manifest import Manifest, ManifestError, load
from stages.materialize import StageSpec, materialize
from stages.ref import Ref

SCHEDULE = {"global_batch_size": 8, "steps": 2, "learning_rate": 0.001}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuning")


@pytest.fixture(scope="module")
def store(root: Path) -> Store:
    store = Store(str(root / "store"))
    make_language(store), make_contrastive(store)
    made("conversations", store, "conversations", {"scenes": 24})
    names = ("conversations", "checkpoints/contrastive", "checkpoints/language")
    made(
        "instruct",
        store,
        "checkpoints/instruct",
        {"held_out_share": 0.3, "held_out": 4, "template": "internvl2_5", "schedule": SCHEDULE},
        names,
    )
    return store


def made(
    stage: str, store: Store, name: str, parameters: dict[str, object], inputs: tuple[str, ...] = ()
) -> Manifest:
    refs = tuple(Ref(name=each, version="t") for each in inputs)
    spec = StageSpec(stage=stage, artifact=Ref(name=name, version="t"), parameters=parameters, inputs=refs)
    return materialize(spec, store, InlineCluster(), progress=False)


def command(store: Store, *words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"INTERNVL_STORE": store.root})
    return result.exit_code, " ".join(result.output.split())


def call(store: Store, *words: object) -> tuple[int, str]:
    return command(store, "tune", *words)


GO_ON = ("checkpoints/instruct@t", "--conversations", "conversations@t", "--new-version")


def test_adapters_are_trained_on_a_finished_model(store: Store, root: Path) -> None:
    (root / "given.json").write_text(json.dumps({"lora": {"language": 2, "merge": False}, "schedule": {"steps": 1}}))
    code, said = call(store, *GO_ON, "adapted", "--parameters", root / "given.json")
    assert code == 0, said
    found = load(store, Ref(name="checkpoints/instruct", version="adapted"))
    used = found.identity["parameters"]
    assert (used["template"], used["start"], used["held_out"]) == ("internvl2_5", "checkpoints/instruct", 4)
    assert used["schedule"]["steps"] == 1 and used["schedule"]["learning_rate"] == 0.001
    whole = load(store, Ref(name="checkpoints/instruct", version="t")).parts[0].files
    files = found.parts[0].files
    assert "adapter_config" in files and files["model"].bytes < whole["model"].bytes / 2
    loss = f"held out loss {found.totals['held_out_loss']:.3f}"
    assert f"checkpoints/instruct@adapted {found.ledger.kept} conversations; {loss}" in said
    # A second one goes on from base and adapters together, and adapts nothing unless it is asked to.
    code, said = call(store, "checkpoints/instruct@adapted", *GO_ON[1:], "twice")
    assert code == 0, said
    files = load(store, Ref(name="checkpoints/instruct", version="twice")).parts[0].files
    assert "adapter_config" not in files and files["model"].bytes == whole["model"].bytes


def test_sources_of_one_name_are_refused(store: Store) -> None:
    both = ("--conversations", "conversations@t", "--conversations", "conversations@other", "--new-version", "x")
    code, said = call(store, "checkpoints/instruct@t", *both)
    assert code == 2 and "conversations@t and conversations@other have one name" in said, said


def test_what_it_cannot_do_is_refused(store: Store, root: Path) -> None:
    (root / "list.json").write_text("[1]")
    for words, says in (
        ((*GO_ON, "t"), "give --new-version another name"),
        (("checkpoints/language@t", *GO_ON[1:], "x"), "is no chat model"),
        ((*GO_ON, "x", "--parameters", root / "list.json"), "holds a list; parameters are a JSON object"),
        (("checkpoints/instruct@absent", *GO_ON[1:], "x"), "finished versions:"),
    ):
        code, said = call(store, *words)
        assert code == 2 and says in said, said


def test_it_runs_where_it_is_told_to(store: Store, root: Path) -> None:
    (root / "short.json").write_text(json.dumps({"schedule": {"steps": 1}}))
    (root / "placed.json").write_text(json.dumps({"max_packed_tokens": 4096, "activation_checkpointing": True}))
    more = ("--parameters", root / "short.json", "--placement", root / "placed.json")
    code, said = call(store, *GO_ON, "placed", *more, "--workers", 1)
    assert code == 0, said
    run = json.loads(store.read("checkpoints/instruct/placed/run.json"))
    assert run["placement"] == {"max_packed_tokens": 4096, "activation_checkpointing": True, "workers": 1}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_packed_tokens": 10}, "more than max_packed_tokens 10"),
        ({"packs": 1}, "a placement has no 'packs'; it has activation_checkpointing, "),
        ({"workers": 2}, "says workers 2, and --workers 1; leave one of them out"),
        ({"data_workers": "2"}, "data_workers"),
        ({"max_packed_tiles": 0}, "max_packed_tiles 0 must be at least 1"),
        ([1], "holds a list; fields of a placement are a JSON object"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(store: Store, root: Path, given: object, says: str) -> None:
    (root / "wrong.json").write_text(json.dumps(given))
    code, said = call(store, *GO_ON, "x", "--placement", root / "wrong.json", "--workers", 1)
    assert code == 2 and says in said, said


@pytest.mark.parametrize("command", ["tune", "distill", "finetune"])
def test_each_command_reads_the_placement(store: Store, root: Path, command: str) -> None:
    (root / "wrong.json").write_text('{"packs": 1}')
    words = {
        "tune": [str(word) for word in (*GO_ON, "x")],
        "distill": ["checkpoints/contrastive@t", "--shards", "conversations@t", "--new-version", "x"],
        "finetune": ["checkpoints/contrastive@t", "--shards", "conversations@t", "--new-version", "x"],
    }
    line = [command, *words[command], "--placement", str(root / "wrong.json")]
    result = CliRunner().invoke(app, line, env={"INTERNVL_STORE": store.root})
    assert result.exit_code == 2 and "a placement has no 'packs'" in " ".join(result.output.split())


@pytest.mark.parametrize("layout", ["native", "official"])
def test_a_published_model_is_adopted_bit_by_bit_and_tuned(store: Store, root: Path, layout: str) -> None:
    folder, name = root / f"published-{layout}", f"adopted-{layout}"
    assert command(store, "export", "checkpoints/instruct@t", folder, "--layout", layout)[0] == 0
    code, said = command(store, "adopt", folder, "--new-version", name)
    assert code == 0 and f"internvl tune checkpoints/instruct@{name}" in said, said
    ours = load(store, Ref(name="checkpoints/instruct", version="t"))
    made = load(store, Ref(name="checkpoints/instruct", version=name))
    mine, taken = (fetch(store, each, root / f"{layout}-{each.ref.version}") for each in (ours, made))
    before, after = (load_file(each / "model.safetensors") for each in (mine, taken))
    assert before.keys() == after.keys() and all(torch.equal(before[each], after[each]) for each in before)
    told = further(store, made, 1000)
    assert (told.template, told.image_size, told.select_layer) == ("internvl2_5", 48, -1)
    assert (told.schedule.global_batch_size, told.schedule.steps, told.schedule.learning_rate) == (128, 7, 4e-5)
    again = command(store, "adopt", folder, "--new-version", name)
    assert again == (code, said), "it stands"
    short = {"schedule": {"steps": 1, "global_batch_size": 4, "precision": "fp32"}, "lora": {"language": 2}}
    (root / "adapters.json").write_text(json.dumps({**short, "held_out_share": 0.3, "held_out": 4}))
    more = ("--new-version", f"tuned-{layout}", "--parameters", root / "adapters.json")
    code, said = call(store, f"checkpoints/instruct@{name}", "--conversations", "conversations@t", *more)
    assert code == 0, said
    tuned = load(store, Ref(name="checkpoints/instruct", version=f"tuned-{layout}"))
    assert tuned.identity["parameters"]["template"] == "internvl2_5" and "held_out_loss" in tuned.totals
    assert kind_of(made) == "instruct"


def test_what_is_no_published_chat_model_is_not_adopted(store: Store, root: Path) -> None:
    folder = root / "whole"
    assert command(store, "export", "checkpoints/instruct@t", folder, "--layout", "native")[0] == 0
    lame = root / "lame"
    shutil.copytree(folder, lame)
    (lame / "tokenizer.json").unlink()
    short = root / "short"
    shutil.copytree(folder, short)
    weights = load_file(short / "model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, short / "model.safetensors")
    for words, says in (
        ((root / "nowhere", "--new-version", "x"), "there is no folder"),
        ((root, "--new-version", "x"), "has no config.json"),
        ((lame, "--new-version", "x"), "has no tokenizer.json"),
        ((short, "--new-version", "x"), "missing"),
        ((folder, "--new-version", "t"), "stands and was made differently"),
    ):
        code, said = command(store, "adopt", *words)
        assert code == 2 and says in said, said
    assert not store.exists("checkpoints/instruct/x/manifest.json")
    assert load(store, Ref(name="checkpoints/instruct", version="t")).stage == "instruct"


def test_files_that_change_while_they_are_read_are_no_model(store: Store, root: Path) -> None:
    folder = root / "moving"
    assert command(store, "export", "checkpoints/instruct@t", folder, "--layout", "native")[0] == 0
    parameters = {"folder": str(folder), "digest": "0" * 64}
    spec = StageSpec(stage="adopt", artifact=Ref(name="checkpoints/instruct", version="y"), parameters=parameters)
    with pytest.raises(ManifestError, match="are not those that were named"):
        materialize(spec, store, InlineCluster(), progress=False)
