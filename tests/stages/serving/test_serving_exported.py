"""From a name to a folder that an engine can load."""

import json
import shutil
from pathlib import Path

import pytest
from exporting import exported, make_chat
from taught_models import taught

from infra.storage import Store
from stages.checkpoints import publish
from stages.conversations import Parameters
from stages.manifest import ManifestError, digest_of
from stages.ref import Ref
from stages.serving.exported import served, tidy
from stages.serving.served_model import ServedModel
from stages.workspace import Output


def test_a_checkpoint_is_exported_once_and_an_export_unpacked(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, checkpoint = make_chat(store)
    exported(store, tmp_path, checkpoint, "instruct")
    cache = tmp_path / "cache"
    made, unpacked = (served(f"{kind}/instruct@t", store, cache) for kind in ("checkpoints", "exports"))
    assert (made.name, unpacked.name) == ("checkpoints/instruct@t", "exports/instruct@t")
    assert made.folder != unpacked.folder
    for name in ("config.json", "model.safetensors", "chat_template.jinja"):
        assert (made.folder / name).read_bytes() == (unpacked.folder / name).read_bytes()
    assert checkpoint.digest in made.facts and "## Made from" in made.facts and not made.drawn_world
    assert sorted(path.name for path in cache.iterdir()) == sorted([made.folder.name, unpacked.folder.name])

    def again(*_: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr("stages.serving.exported.write_chat", again)
    assert served("checkpoints/instruct@t", store, cache) == made


def test_a_folder_is_served_as_it_is_or_exported_for_once(
    checkpoint: Path, model: ServedModel, store: Store, tmp_path: Path
) -> None:
    native = served(str(model.folder), store, tmp_path / "cache")
    assert native.folder == model.folder and native.facts == "" and not (tmp_path / "cache").exists()
    ours = served(str(checkpoint), store, tmp_path / "cache")
    assert ours.name == checkpoint.name and ours.folder.parent == tmp_path / "cache"
    assert ours.parameters == native.parameters > 10_000 and ours.context == 512
    tidy(native, tmp_path / "cache")
    tidy(ours, tmp_path / "cache")
    assert not ours.folder.exists() and native.folder.exists()


@pytest.mark.parametrize("trouble", [ValueError("no such tile"), KeyboardInterrupt()], ids=["refused", "stopped"])
def test_an_export_for_once_that_ends_early_leaves_nothing(
    checkpoint: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    def ends(source: Path, target: Path, *_: object) -> None:
        (target / "half").touch()
        raise trouble

    monkeypatch.setattr("stages.serving.exported.write_chat", ends)
    with pytest.raises((ManifestError, KeyboardInterrupt)):
        served(str(checkpoint), store, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_is_no_chat_model_is_refused_with_what_to_name(store: Store, tmp_path: Path, model: ServedModel) -> None:
    for source, said in {
        "nowhere": "there is no folder nowhere; name one, or an artifact",
        "checkpoints/instruct@nine": "no version of it is finished",
        str(tmp_path): "has no config.json",
    }.items():
        with pytest.raises(ManifestError, match=said):
            served(source, store, tmp_path / "cache")
    output = Output(store, Ref(name="checkpoints/contrastive", version="t"), "contrastive", {"inputs": {}})
    output.commit([publish(output, digest_of(1), {"a": ("a", b"a")}, 1)])
    with pytest.raises(ManifestError, match="checkpoints/contrastive@t is no chat model"):
        served("checkpoints/contrastive@t", store, tmp_path / "cache")
    shutil.copytree(model.folder, half := tmp_path / "half")
    (half / "chat_template.jinja").unlink()
    with pytest.raises(ManifestError, match=r"it has no chat_template\.jinja; name an artifact"):
        served(str(half), store, tmp_path / "cache")
    shutil.copytree(model.folder, other := tmp_path / "other")
    (other / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(ManifestError, match="not transformers' InternVL"):
        served(str(other), store, tmp_path / "cache")


@pytest.mark.parametrize(("captions", "drawn"), [(False, True), (True, False)])
def test_examples_are_shown_to_those_who_were_taught_on_drawn_scenes(
    store: Store, tmp_path: Path, captions: bool, drawn: bool
) -> None:
    taught(store, Parameters(scenes=5, captions=captions))
    assert served("checkpoints/instruct@w", store, tmp_path / "cache").drawn_world is drawn
