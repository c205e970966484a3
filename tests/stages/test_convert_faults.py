"""What is refused, with all that is wrong in one error: weights, sources, targets, layouts."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from layouts_data import MODELS, TEXT, laid, made, possible, write
from safetensors.torch import load_file

from models.config import VisionConfig
from models.intern_vit import InternVisionModel
from models.recognise import Whose
from models.renaming import WeightsError, fill
from stages.convert import convert
from stages.weight_files import on_meta, write_weights


def faulty(weights: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return weights with each kind of fault, and what is to be said about them."""
    names = sorted(weights)
    gone, bent, counted = names[0], names[len(names) // 2], names[-1]
    found = {**weights, "one.too.many": torch.zeros(2), bent: torch.zeros(7, 7, 7)}
    found[counted] = torch.zeros(weights[counted].shape, dtype=torch.int64)
    del found[gone]
    shape = tuple(weights[bent].shape)
    return found, [
        f"weight {gone!r} is missing",
        "weight 'one.too.many' is not known",
        f"weight {bent!r} has shape (7, 7, 7) instead of {shape}",
        f"weight {counted!r} holds int64, not real numbers",
    ]


@pytest.mark.parametrize(
    ("name", "layout"),
    [(n, layout) for n in MODELS for layout in ("ours", "official", "native", "pth") if possible(n, layout)],
)
def test_all_faults_are_named_in_one_error(tmp_path: Path, name: str, layout: Whose) -> None:
    fields, weights = laid(name, layout)
    broken, said = faulty(weights)
    if layout == "pth":
        source = tmp_path / "source.pth"
        torch.save(broken, source)
        source.with_suffix(".json").write_text(json.dumps(fields))
    else:
        source = tmp_path / "source"
        write_weights(broken, on_meta(broken), source)
        (source / "config.json").write_text(json.dumps(fields))
    other: Whose = "official" if layout != "official" else "ours"
    with pytest.raises(WeightsError) as caught:
        convert(source, tmp_path / "target", other)
    assert [part for part in said if part not in str(caught.value)] == []
    assert str(caught.value).count("weight '") == 4
    assert not (tmp_path / "target").exists()


def test_all_faults_of_a_pth_without_configuration_are_named_in_one_error(tmp_path: Path) -> None:
    broken, said = faulty(laid("300m_style", "pth")[1])
    torch.save(broken, tmp_path / "vit.pth")
    with pytest.raises(WeightsError) as caught:
        convert(tmp_path / "vit.pth", tmp_path / "target")
    assert [part for part in said if part not in str(caught.value)] == []


def test_all_faults_are_named_where_a_model_is_filled() -> None:
    config, weights, _ = made("6b_style")
    assert isinstance(config, VisionConfig)
    broken, said = faulty(weights)
    with pytest.raises(WeightsError) as caught:
        fill(InternVisionModel(config), broken, "InternViT")
    assert [part for part in said if part not in str(caught.value)] == []


def test_a_source_that_is_no_model_is_refused_with_the_next_move(tmp_path: Path) -> None:
    empty, torn, other = tmp_path / "empty", tmp_path / "torn", tmp_path / "other"
    for folder, text in ((empty, None), (torn, "{"), (other, '{"model_type": "bert"}')):
        folder.mkdir()
        if text:
            (folder / "config.json").write_text(text)
    convert(write("6b_style", "official", tmp_path / "shards"), tmp_path / "lone", "official")
    lone = tmp_path / "lone" / "model.safetensors"
    speaks = tmp_path / "speaks"
    speaks.mkdir()
    (speaks / "config.json").write_text(json.dumps({"model_type": "llama", **TEXT.model_dump()}))
    listed = tmp_path / "listed"
    listed.mkdir()
    (listed / "config.json").write_text("[]")
    for source, error, message in (
        (tmp_path / "none", FileNotFoundError, "none is missing; name a folder with config.json and weights"),
        (empty, FileNotFoundError, r"empty.config.json is missing; .* give --config"),
        (torn, ValueError, r"torn.config.json is no JSON"),
        (listed, ValueError, r"holds a list, no configuration"),
        (other, ValueError, r"neither one of ours nor one of .* \(model_type 'bert'\)"),
        (speaks, ValueError, "of a language model alone"),
        (lone, FileNotFoundError, r"model.json is missing; .* give --config"),
    ):
        with pytest.raises(error, match=message):
            convert(source, tmp_path / "target")
        assert not (tmp_path / "target").exists()
    convert(lone, tmp_path / "target", config=lone.with_name("config.json"))
    assert load_file(tmp_path / "target" / "model.safetensors").keys() == laid("6b_style", "native")[1].keys()


def test_a_target_that_is_there_or_is_no_place_for_the_layout_is_refused(tmp_path: Path) -> None:
    source = write("6b_style", "official", tmp_path / "source")
    taken = tmp_path / "taken"
    taken.mkdir()
    convert(source, taken)
    before = {path.name: path.read_bytes() for path in taken.iterdir()}
    (tmp_path / "file").write_text("mine")
    (tmp_path / "vit.json").write_text("{}")
    for target, layout, message in (
        (taken, None, "taken exists already; name another"),
        (source, None, "source exists already"),
        (tmp_path / "file", None, "file exists already"),
        (tmp_path / "vit.pth", None, "vit.json exists already"),
        (tmp_path / "new", "pth", "to a file NAME.pth"),
        (tmp_path / "new.pth", "native", "no place for the layout native"),
        (tmp_path / "new.safetensors", None, "no place for the layout native: .* the others to a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(source, target, layout)
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == before
    assert not list(tmp_path.glob("new*"))


def test_a_layout_that_a_model_has_not_is_refused(tmp_path: Path) -> None:
    towers, chat = write("g", "official", tmp_path / "g"), write("llama", "ours", tmp_path / "chat")
    for source, target, layout, language, message in (
        (towers, "t", "native", None, "transformers has no class for InternVL-C and -G; official, ours and pth"),
        (chat, "t.pth", None, None, "no chat model was ever released as .pth"),
        (chat, "t", "official", "qwen2", "has no biases of queries and keys"),
        (chat, "t", "official", "opt", "'opt' is none of llama, qwen2, internlm2, phi3"),
        (chat, "t", "native", "phi3", "for chat models in the official layout alone"),
        (towers, "t", "official", "phi3", "for chat models in the official layout alone"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(source, tmp_path / target, layout, language=language)
        assert not (tmp_path / target).exists()
