"""Each kind of exported model is handed to the harnesses that can take it, and to no other."""

import json
from pathlib import Path

import pytest
from chat_models import chat_session, write_chat
from clip_benchmark.models import MODEL_TYPES
from safetensors.torch import save_file
from worlds import tiny_towers, tokenizer

from stages.convert import convert
from stages.evaluations.elsewhere import KEY, handed, vlmevalkit_config
from stages.evaluations.on_clip_benchmark import KIND, MODELS, register
from stages.serving.limits import Limits


def towers(folder: Path, *, generative: bool) -> Path:
    folder.mkdir()
    model = tiny_towers(generative=generative)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(model.config.model_dump_json())
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(("generative", "way"), [(False, "c"), (True, "g")])
def test_towers_go_to_clip_benchmark_by_names_that_it_knows(tmp_path: Path, generative: bool, way: str) -> None:
    (found,) = handed(towers(tmp_path / "t", generative=generative))
    assert found.harness == "CLIP_benchmark" and found.tested
    named = [line.split("--model ")[1].split()[0] for line in found.run.splitlines()]
    assert named == [f"internvl_{way}_classification", f"internvl_{way}_retrieval"] and set(named) <= set(MODELS)
    register()
    register()
    assert MODEL_TYPES.count(KIND) == 1 and "'data/{dataset}'" in found.run


def test_a_chat_model_is_loaded_by_transformers_where_it_can_be_and_served_anyway(tmp_path: Path) -> None:
    ours = write_chat(chat_session(min_dynamic_patch=1, max_dynamic_patch=6), tmp_path / "ours")
    assert [each.harness for each in handed(ours)] == ["lmms-eval, served", "VLMEvalKit, served"]
    convert(ours, tmp_path / "native", "native")
    native, *served = handed(tmp_path / "native")
    assert "--model internvl_hf" in native.run and "min_patches=1,max_patches=6" in native.run
    assert len(served) == 2 and not any(each.tested for each in (native, *served))


def test_vlmevalkit_is_told_what_our_endpoint_takes(tmp_path: Path) -> None:
    told = json.loads(vlmevalkit_config(tmp_path / "chat"))
    model = told["model"]["chat"]
    assert model["key"] == KEY and KEY.startswith("sk-") and model["api_base"].endswith("/v1/chat/completions")
    assert model["max_tokens"] <= Limits().answer_tokens and model["img_size"] == -1
    assert all(value == {"class": value["class"], "dataset": name} for name, value in told["data"].items())


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        handed(tmp_path)
