"""An exported folder is whole, tells where it comes from, and holds only what transformers can compute."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import VISION, commit, exported, make_chat, randomised
from PIL import Image
from safetensors.torch import load_file
from training_data import tiny_tokenizer
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    InternVLVisionModel,
)

from infra.cluster import InlineCluster
from infra.storage import Store
from models.config import InternVLConfig, TextConfig
from models.internvl import InternVL
from models.preprocess import pixel_values
from models.rope import DynamicRope
from models.weights import chat_from_native, chat_to_native
from stages import export
from stages.chat import ChatSession
from stages.checkpoints import fetch, publish
from stages.convert import convert
from stages.export_chat import write_chat
from stages.manifest import ManifestError, digest_of, verify
from stages.ref import Ref
from stages.workspace import Output, Workspace


def test_a_chat_export_is_whole_repeatable_and_can_come_back(store: Store, tmp_path: Path) -> None:
    model, _, checkpoint = make_chat(store)
    manifest = exported(store, tmp_path, checkpoint, "instruct")
    assert verify(store, manifest) == []
    again = exported(store, tmp_path, checkpoint, "instruct", version="again")
    assert again.parts[0].files == manifest.parts[0].files
    folder = export.unpack(store, manifest, tmp_path / "out")
    back = chat_from_native(load_file(folder / "model.safetensors"))
    fused = chat_to_native(model.state_dict(), "Phi3ForCausalLM")
    state = model.state_dict()
    assert len(fused) == len(chat_to_native(state)) - 3 * 2, "five weights of each layer become two"
    again = chat_from_native(fused)
    assert set(again) == set(state) and all(torch.equal(again[name], state[name]) for name in state)
    assert set(back) == set(state) and all(torch.equal(back[name], state[name]) for name in state)
    assert manifest.totals["parameters"] == sum(value.numel() for value in state.values())
    assert manifest.ledger.listed == manifest.ledger.kept == len(chat_names(folder))
    card = (folder / "README.md").read_text()
    assert "processor.image_processor = GotOcr2ImageProcessorPil.from_pretrained(FOLDER)" in card
    assert checkpoint.digest in card and "c" * 64 in card and str(checkpoint.ref) in card
    assert "Not evaluated when it was exported." in card
    tokens = AutoTokenizer.from_pretrained(folder)
    assert len(tokens) == model.config.text.vocab_size + 1, "the mark of a video, which no text keeps"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ps_version": "v1"}, "ps_version v2 only, not 'v1'"),
        ({"max_dynamic_patch": 4, "use_thumbnail": False}, "use_thumbnail False with max_dynamic_patch 4"),
        ({"downsample_ratio": 1 / 3}, "only ratios that are powers of two work there"),
    ],
)
def test_what_transformers_computes_otherwise_keeps_the_official_layout(
    store: Store, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    model, tokenizer, checkpoint = make_chat(store, **changes)
    manifest = exported(store, tmp_path, checkpoint, "instruct")
    assert manifest.totals["notes"][0].startswith("layout official: ") and why in manifest.totals["notes"][0]
    folder = export.unpack(store, manifest, tmp_path / "out")
    written = json.loads((folder / "config.json").read_text())
    assert (written["model_type"], written["architectures"]) == ("internvl_chat", ["InternVLChatModel"])
    assert written["llm_config"]["eos_token_id"] == tokenizer.token_to_id("<|im_end|>")
    assert written["template"] == "Hermes-2" and "InternVLChatModel" in (folder / "README.md").read_text()
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    picture = Image.new("RGB", (130, 50), "red")
    ours = ChatSession(model, tokenizer).ask("What?", picture, max_new_tokens=8)
    assert ChatSession.from_folder(folder).ask("What?", picture, max_new_tokens=8) == ours
    assert len(AutoTokenizer.from_pretrained(folder)) == model.config.text.vocab_size
    with pytest.raises(ManifestError, match=rf"cannot be exported: .*{why}.*or export it in the layout official"):
        exported(store, tmp_path, checkpoint, "instruct", version="native", layout="native")


def test_the_official_layout_can_be_asked_for(store: Store, tmp_path: Path) -> None:
    _, _, checkpoint = make_chat(store, {"qkv_bias": True})
    manifest = exported(store, tmp_path, checkpoint, "instruct", layout="official")
    folder = export.unpack(store, manifest, tmp_path / "out")
    assert manifest.totals["notes"] == ["layout official"]
    assert json.loads((folder / "config.json").read_text())["llm_config"]["architectures"] == ["Qwen2ForCausalLM"]


def test_the_card_carries_the_evaluation(store: Store, tmp_path: Path) -> None:
    _, _, checkpoint = make_chat(store)
    measured = Output(store, Ref(name="evaluations/instruct", version="t"), "evaluate", {}).commit(
        [], totals={"markdown": "| 42.0 % | chance 20.0 % |"}
    )
    inputs = {manifest.ref.name: manifest for manifest in (checkpoint, measured)}
    here = Workspace(store, InlineCluster(), tmp_path / "scratch", inputs)
    output = Output(store, Ref(name="exports/instruct", version="t"), "export", {})
    manifest = export.run(export.Parameters(kind="instruct"), output, here)
    card = (export.unpack(store, manifest, tmp_path / "out") / "README.md").read_text()
    assert measured.digest in card and "| 42.0 % | chance 20.0 % |" in card and "Not evaluated" not in card


def chat_names(folder: Path) -> set[str]:
    return set(load_file(folder / "model.safetensors"))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            {"sliding_window": 9, "qkv_bias": True},
            r"no decoder with qkv_bias and with sliding_window.*nor is there an official.*: Qwen2ForCausalLM knows",
        ),
        (
            {"sliding_window": 9, "rope_scaling": DynamicRope(factor=2.0)},
            r"no decoder with sliding_window and rope_scaling 'dynamic'.*: Phi3ForCausalLM knows no rope_scaling",
        ),
    ],
)
def test_a_model_that_nobody_else_computes_is_refused(
    store: Store, tmp_path: Path, shape: dict[str, Any], message: str
) -> None:
    _, _, checkpoint = make_chat(store, shape)
    with pytest.raises(ManifestError, match=rf"checkpoints/instruct@t cannot be exported: .*{message}"):
        exported(store, tmp_path, checkpoint, "instruct")


def test_a_connector_that_nobody_else_has_is_refused(store: Store, tmp_path: Path) -> None:
    _, _, checkpoint = make_chat(store, connector="mlp", downsample_ratio=1.0)
    with pytest.raises(
        ManifestError, match=r"cannot be exported: neither .* the connector mlp; only ours is possible$"
    ):
        exported(store, tmp_path, checkpoint, "instruct")


def test_a_foreign_configuration_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    model, tokenizer, _ = make_chat(Store(str(tmp_path / "other")))
    checkpoint = commit(store, "checkpoints/instruct", '{"hidden_size": 3}', model.state_dict(), tokenizer)
    with pytest.raises(ManifestError, match=r"instruct@t cannot be exported: .* holds no chat model: name one"):
        exported(store, tmp_path, checkpoint, "instruct")


@pytest.mark.parametrize("generative", [False, True])
def test_towers_keep_the_official_layout_and_the_vision_tower_loads(
    store: Store, tmp_path: Path, generative: bool
) -> None:
    tokenizer = tiny_tokenizer()
    config = InternVLConfig(
        vision=VISION,
        text=TextConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
        ),
        embed_dim=16,
        attn_pool_num_heads=2,
        num_query_token=4,
    )
    model = randomised(InternVL(config, generative=generative))
    assert isinstance(model, InternVL)
    kind = "generative" if generative else "contrastive"
    checkpoint = commit(store, f"checkpoints/{kind}", config.model_dump_json(), model.state_dict(), tokenizer)
    folder = export.unpack(store, exported(store, tmp_path, checkpoint, kind), tmp_path / "out")
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    written = json.loads((folder / "config.json").read_text())
    assert (written["model_type"], written["clip_embed_dim"]) == ("internvl", 16)
    vision, loading = InternVLVisionModel.from_pretrained(folder / "vision", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    pixels = pixel_values(Image.new("RGB", (60, 50), (200, 30, 90)), 48)[None]
    with torch.no_grad():
        wanted, found = model.vision_model(pixels), vision.eval()(pixels, output_hidden_states=True)
    for ours, theirs in zip(wanted.hidden_states, found.hidden_states, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * ours.abs().max()


def test_a_name_outside_the_folder_is_refused(store: Store, tmp_path: Path) -> None:
    output = Output(store, Ref(name="exports/instruct", version="t"), "export", {})
    files = {"a": ("a.json", b"{}")}
    part = publish(output, digest_of("x"), files, 1, {"names": {"a": "../a.json"}})
    with pytest.raises(ManifestError, match="outside its folder"):
        export.unpack(store, output.commit([part]), tmp_path / "out")
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("language", ["llama", "internlm2", "phi3", "qwen2"])
def test_every_official_language_model_becomes_native_in_shards(store: Store, tmp_path: Path, language: str) -> None:
    model, tokenizer, checkpoint = make_chat(store, {"qkv_bias": language == "qwen2"}, select_layer=-2)
    folder = fetch(store, checkpoint, tmp_path / "ours")
    official = convert(folder, tmp_path / "official", "official", language=language, shard_bytes=50_000)
    assert len(official.files) > 4
    written = write_chat(tmp_path / "official", tmp_path / "native", "native", max_new_tokens=9, shard_bytes=50_000)
    assert (written.layout, written.why) == ("native", "")
    assert (tmp_path / "native" / "model.safetensors.index.json").is_file()
    picture = Image.new("RGB", (48, 48), "red")
    ours = ChatSession(model, tokenizer).ask("What?", picture, max_new_tokens=9)
    assert ChatSession.from_folder(tmp_path / "native").ask("What?", picture, max_new_tokens=9) == ours
    processor = AutoProcessor.from_pretrained(tmp_path / "native")
    native = AutoModelForImageTextToText.from_pretrained(tmp_path / "native").eval()
    turn = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]}
    inputs = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    answer = native.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    assert processor.decode(answer, skip_special_tokens=True).strip() == ours


def test_a_tokenizer_that_does_not_fit_is_named(store: Store, tmp_path: Path) -> None:
    _, _, checkpoint = make_chat(store)
    folder = fetch(store, checkpoint, tmp_path / "ours")
    given = json.loads((folder / "config.json").read_text())
    for changes, message in (
        ({"image_context_token_id": 5}, "config.json and tokenizer.json disagree about <IMG_CONTEXT>"),
        ({"template": "internlm2-chat", "text": {**given["text"], "bos_token_id": 40}}, "id 40 is no special one"),
    ):
        (folder / "config.json").write_text(json.dumps({**given, **changes}))
        with pytest.raises(ManifestError, match=message):
            write_chat(folder, tmp_path / "out")
    (folder / "config.json").write_text(json.dumps({**given, "text": {**given["text"], "bos_token_id": 40}}))
    write_chat(folder, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert said["bos_token"] is None, "a usual word is not made a special one"
