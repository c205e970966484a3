"""Weights in files: read and written tensor by tensor, in shards, and never unpickled."""

import json
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import InternVLForConditionalGeneration, InternVLVisionModel

from models.chat import InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.official_config import official_vision_config, text_of
from models.pth_names import encoder_to_pth, towers_to_pth
from models.renaming import State, WeightsError, fill
from models.weights import chat_from_native, chat_from_official, chat_to_native, chat_to_official
from stages.convert import HEAD, convert, from_first_release, to_native
from stages.weight_files import INDEX, ONE_FILE, on_meta, open_weights, write_weights

VISION = VisionConfig(
    image_size=16, patch_size=4, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)
TEXT = TextConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2,
)  # fmt: skip
LLM = {**TEXT.model_dump(exclude={"qkv_bias"}), "eos_token_id": 2, "hidden_act": "silu", "bias": False}


def shaken(model: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def load_all(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}


def equal(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> bool:
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


MIXED = {
    "a.weight": torch.arange(6.0).view(2, 3),
    "b": torch.tensor(2.5),
    "c": torch.tensor([[1.5], [-2.0], [3.0]], dtype=torch.bfloat16),
    "d": torch.tensor([7, 8, 9]),
    "e": torch.tensor([True, False, True]),
    "f": torch.zeros(0, 4, dtype=torch.float16),
}


def test_what_is_written_is_read_by_others_and_by_us(tmp_path: Path) -> None:
    written = write_weights(MIXED, on_meta(MIXED), tmp_path)
    assert [path.name for path in written] == [ONE_FILE]
    assert equal(load_file(tmp_path / ONE_FILE), MIXED)
    ours = open_weights(tmp_path)
    assert equal(dict(ours), MIXED) and len(ours) == 6 and "b" in ours and "x" not in ours
    described = on_meta(ours)
    assert {name: (value.shape, value.dtype) for name, value in described.items()} == {
        name: (value.shape, value.dtype) for name, value in MIXED.items()
    }
    again = tmp_path / "again"
    write_weights(ours, described, again)
    assert (again / ONE_FILE).read_bytes() == (tmp_path / ONE_FILE).read_bytes()


def test_large_models_are_written_in_shards_with_an_index(tmp_path: Path) -> None:
    (tmp_path / ONE_FILE).write_bytes(b"an older model")
    written = write_weights(MIXED, on_meta(MIXED), tmp_path, shard_bytes=30)
    assert [path.name for path in written] == [
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
        INDEX,
    ]
    assert not (tmp_path / ONE_FILE).exists() and not list(tmp_path.glob("*.partial"))
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == 24 + 4 + 6 + 24 + 3
    for path in written[:3]:
        assert set(load_file(path)) == {name for name, file in index["weight_map"].items() if file == path.name}
    assert equal(dict(open_weights(tmp_path)), MIXED)
    write_weights(MIXED, on_meta(MIXED), tmp_path)
    assert not (tmp_path / INDEX).exists() and equal(dict(open_weights(tmp_path)), MIXED)


def test_shards_that_disagree_with_their_index_are_named_together(tmp_path: Path) -> None:
    write_weights(MIXED, on_meta(MIXED), tmp_path, shard_bytes=30)
    index = json.loads((tmp_path / INDEX).read_text())
    index["weight_map"]["x"] = index["weight_map"].pop("b")
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"'x' is missing in model-0.*'b' of model-0.*is not in the index"):
        open_weights(tmp_path)
    index["weight_map"] = {"y": "../elsewhere.safetensors", "z": "gone.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(
        WeightsError, match=r"'../elsewhere.safetensors' is not beside.*'gone.safetensors' is missing"
    ):
        open_weights(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(WeightsError, match="holds no weight_map"):
        open_weights(tmp_path)


def test_what_is_not_there_or_torn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is missing"):
        open_weights(tmp_path)
    (tmp_path / ONE_FILE).write_bytes(b"\x09")
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        open_weights(tmp_path)
    described = {**on_meta(MIXED), "b": torch.empty(2, device="meta")}
    with pytest.raises(WeightsError, match="'b' turned out as"):
        write_weights(MIXED, described, tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


class Counted(Mapping[str, torch.Tensor]):
    """Weights that count how many of the tensors they gave out are still alive."""

    def __init__(self, weights: State) -> None:
        self.weights, self.alive, self.most = weights, 0, 0

    def __getitem__(self, name: str) -> torch.Tensor:
        value = self.weights[name].clone()
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(value, self._gone)
        return value

    def _gone(self) -> None:
        self.alive -= 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def deep(decoder: str, text: TextConfig = TEXT) -> tuple[InternVLChat, State]:
    torch.manual_seed(11)
    text = text.model_copy(update={"num_hidden_layers": 6})
    config = ChatConfig(vision=VISION, text=text, image_context_token_id=4, eos_token_id=2)
    model = shaken(InternVLChat(config))
    return model, dict(chat_to_official(model.state_dict(), decoder, text))


def test_a_conversion_holds_no_more_than_a_few_tensors(tmp_path: Path) -> None:
    model, official = deep("InternLM2ForCausalLM")

    def change(weights: State) -> State:
        return chat_to_native(chat_from_official(weights, "InternLM2ForCausalLM", model.config.text))

    counted = Counted(official)
    made = Counted(change(counted))
    write_weights(made, dict(change(on_meta(official))), tmp_path, shard_bytes=10_000)
    assert len(official) > 80
    assert counted.most <= 3 and made.most <= 2 and counted.alive + made.alive <= 2
    native = dict(chat_to_native(model.state_dict()))
    assert equal(dict(open_weights(tmp_path)), native) and len(list(tmp_path.glob("model-*.safetensors"))) > 3


SU = {"type": "su", "short_factor": [1.0, 1.2, 1.6, 2.0], "long_factor": [1.1, 3.0, 9.0, 20.0]}


@pytest.mark.parametrize(
    ("decoder", "extra", "kind"),
    [
        ("LlamaForCausalLM", {}, "llama"),
        ("Qwen2ForCausalLM", {"use_sliding_window": False, "sliding_window": 3}, "qwen2"),
        ("InternLM2ForCausalLM", {}, "llama"),
        (
            "InternLM2ForCausalLM",
            {"rope_scaling": {"type": "dynamic", "factor": 3.0}, "max_position_embeddings": 6},
            "llama",
        ),
        ("Phi3ForCausalLM", {"sliding_window": None}, "llama"),
        ("Phi3ForCausalLM", {"sliding_window": 4}, "phi3"),
        ("Phi3ForCausalLM", {"rope_scaling": SU, "original_max_position_embeddings": 6}, "phi3"),
        ("Phi3ForCausalLM", {"rope_scaling": SU, "sliding_window": 262144}, "phi3"),
    ],
)
def test_an_official_chat_model_becomes_one_that_transformers_loads(
    tmp_path: Path, decoder: str, extra: dict[str, Any], kind: str
) -> None:
    llm = {**LLM, "num_hidden_layers": 6, "architectures": [decoder], **extra}
    model, official = deep(decoder, text_of(llm))
    source, target = tmp_path / "official", tmp_path / "native"
    write_weights(official, on_meta(official), source, shard_bytes=40_000)
    config = {
        "model_type": "internvl_chat", "vision_config": official_vision_config(VISION), "downsample_ratio": 0.5,
        "llm_config": llm, "ps_version": "v2", "select_layer": -1,
    }  # fmt: skip
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="give --image-token-id"):
        to_native(source, target)
    (source / "added_tokens.json").write_text('{"<img>": 2, "<IMG_CONTEXT>": 4}')
    to_native(source, target, shard_bytes=40_000)
    written = json.loads((target / "config.json").read_text())
    assert written["image_token_id"] == 4 and written["text_config"]["model_type"] == kind
    theirs = InternVLForConditionalGeneration.from_pretrained(target).eval()
    ids, mask = torch.tensor([[1, 4, 4, 4, 4, 9, 8]]), torch.ones(1, 7, dtype=torch.long)
    pixels = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        found = theirs(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits
        wanted = model.logits(ids, mask, pixels)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    theirs.generation_config.eos_token_id = None
    said = theirs.generate(input_ids=ids, attention_mask=mask, pixel_values=pixels, max_new_tokens=8, do_sample=False)
    ours = model.generate(ids, mask, pixels, max_new_tokens=8)
    assert said[0, 7:].tolist() == ours[0].tolist() and len(set(ours[0].tolist())) > 2
    assert equal(chat_from_native(load_all(target)), model.state_dict())

    broken = dict(official)
    broken["mlp1.9.weight"] = broken.pop("mlp1.0.weight")
    broken["mlp1.3.bias"] = torch.zeros(5)
    write_weights(broken, on_meta(broken), source)
    with pytest.raises(WeightsError, match=r"'mlp1.0.weight' is missing.*'mlp1.9.weight' is not.*'mlp1.3.bias' has"):
        to_native(source, tmp_path / "other", image_token_id=4)
    assert not (tmp_path / "other").exists()


def test_half_precision_stays_and_internvl_14b_is_not_taken_for_the_native_class(tmp_path: Path) -> None:
    source = tmp_path / "official"
    state = {name: value.bfloat16() for name, value in shaken(InternVisionModel(VISION)).state_dict().items()}
    write_weights(state, on_meta(state), source)
    (source / "config.json").write_text(json.dumps(official_vision_config(VISION)))
    to_native(source, tmp_path / "native")
    theirs = InternVLVisionModel.from_pretrained(tmp_path / "native")
    assert theirs.dtype == torch.bfloat16
    assert torch.equal(theirs.embeddings.cls_token, state["embeddings.class_embedding"])
    (source / "config.json").write_text('{"model_type": "internvl", "qllama_config": {}}')
    with pytest.raises(ValueError, match="of the layout 'internvl'"):
        to_native(source, tmp_path / "other")


@pytest.mark.parametrize("nested", [False, True])
def test_the_first_releases_files_are_read_and_a_wrong_one_is_named(tmp_path: Path, nested: bool) -> None:
    config = InternVLConfig(vision=VISION, text=TEXT, embed_dim=8, attn_pool_num_heads=2)
    model = shaken(InternVL(config, generative=False))
    state = {name: value for name, value in model.state_dict().items() if name != HEAD}
    weights = dict(towers_to_pth(model.state_dict()))
    assert {"cls_token", "blocks.1.ls2.gamma", "transformer.norm.weight", "patch_embed.proj.bias"} < set(weights)
    path = tmp_path / "internvl_c.pth"
    torch.save({"module": weights} if nested else weights, path)
    from_first_release(path, tmp_path / "c", shard_bytes=20_000)
    assert equal(dict(open_weights(tmp_path / "c")), state)
    other = shaken(InternVL(config, generative=False))
    fill(other, open_weights(tmp_path / "c"), "InternVL-C", optional=(HEAD,))
    torch.save({**weights, "head.bias": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"'head.bias' is not known"):
        from_first_release(path, tmp_path / "wrong")

    vision = {**encoder_to_pth(model.vision_model.state_dict()), "clip_projector.norm1_q.bias": torch.zeros(2)}
    torch.save(vision, tmp_path / "vit.pth", _use_new_zipfile_serialization=not nested)
    from_first_release(tmp_path / "vit.pth", tmp_path / "vit")
    assert equal(dict(open_weights(tmp_path / "vit")), model.vision_model.state_dict())
    weights.pop("transformer.norm.weight")
    torch.save(weights, path)
    with pytest.raises(WeightsError, match=r"'qllama.model.norm.weight' is missing"):
        from_first_release(path, tmp_path / "wrong")


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    torch.save({"cls_token": torch.zeros(1), "x": Harm(tmp_path / "made")}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="holds more than tensors"):
        open_weights(tmp_path / "a.pth")
    assert not (tmp_path / "made").exists()
    torch.save({"cls_token": torch.zeros(1), "epoch": 3}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="'epoch' is no tensor"):
        open_weights(tmp_path / "b.pth")
    torch.save([torch.zeros(1)], tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="holds a list"):
        open_weights(tmp_path / "c.pth")


def test_a_conversion_by_name_reaches_files(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    described = convert(tmp_path / "x.safetensors", tmp_path / "y", lambda weights: weights)
    assert set(described) == {"a"} and equal(dict(open_weights(tmp_path / "y")), {"a": torch.ones(2)})
