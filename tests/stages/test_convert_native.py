"""What becomes of official models is what transformers loads, computes the same from, and saves."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts_data import LAYER, equal, laid, made, write
from transformers import InternVLForConditionalGeneration, InternVLVisionModel

from models.chat import InternVLChat
from models.config import ChatConfig
from models.decoders import BY_LAYOUT
from models.recognise import describe
from models.renaming import fill
from stages.convert import convert
from stages.weight_files import on_meta, open_weights, write_weights

SU = {"type": "su", "short_factor": [1.0, 1.2, 1.6, 2.0], "long_factor": [1.1, 3.0, 9.0, 20.0]}


@pytest.mark.parametrize(
    ("name", "extra", "kind"),
    [
        ("llama", {}, "llama"),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 3}, "qwen2"),
        ("internlm2", {}, "llama"),
        ("internlm2", {"rope_scaling": {"type": "dynamic", "factor": 3.0}, "max_position_embeddings": 6}, "llama"),
        ("phi3", {"sliding_window": None}, "llama"),
        ("phi3", {"sliding_window": 4}, "phi3"),
        ("phi3", {"rope_scaling": SU, "original_max_position_embeddings": 6}, "phi3"),
        ("phi3", {"rope_scaling": SU, "sliding_window": 262144}, "phi3"),
    ],
)
def test_an_official_chat_model_becomes_one_that_transformers_loads_saves_and_gives_back(
    tmp_path: Path, name: str, extra: dict[str, Any], kind: str
) -> None:
    source = write(name, "official", tmp_path / "official")
    fields = json.loads((source / "config.json").read_text())
    fields["llm_config"] |= extra
    (source / "config.json").write_text(json.dumps(fields))
    config, weights = describe(fields).config, made(name)[1]
    assert isinstance(config, ChatConfig)
    convert(source, tmp_path / "native", shard_bytes=40_000)
    theirs = InternVLForConditionalGeneration.from_pretrained(tmp_path / "native").eval()
    assert theirs.config.text_config.model_type == kind
    ids, mask = torch.tensor([[1, 4, 4, 4, 4, 9, 8]]), torch.ones(1, 7, dtype=torch.long)
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    model = InternVLChat(config).eval()
    fill(model, weights, "the chat model")
    with torch.no_grad():
        found = theirs(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits
        wanted = model.logits(ids, mask, pixels)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    theirs.generation_config.eos_token_id = None
    said = theirs.generate(input_ids=ids, attention_mask=mask, pixel_values=pixels, max_new_tokens=8, do_sample=False)
    ours = model.generate(ids, mask, pixels, max_new_tokens=8)[0].tolist()
    assert said[0, 7:].tolist()[: len(ours)] == ours
    # Back from the folder that transformers itself writes, and by way of ours.
    theirs.save_pretrained(tmp_path / "saved")
    convert(tmp_path / "saved", tmp_path / "back")
    convert(tmp_path / "saved", tmp_path / "ours", "ours")
    convert(tmp_path / "ours", tmp_path / "again", "official", language=name)
    for folder in ("back", "again"):
        assert equal(open_weights(tmp_path / folder), laid(name, "official")[1])
        fields = json.loads((tmp_path / folder / "config.json").read_text())
        assert fields["llm_config"]["architectures"] == [BY_LAYOUT[name].class_name]
        assert describe(fields).config == config


def test_a_language_model_that_only_phi3_computes_has_no_other_layout(tmp_path: Path) -> None:
    config, weights, _ = made("phi3")
    assert isinstance(config, ChatConfig)
    windowed = config.model_copy(update={"text": config.text.model_copy(update={"sliding_window": 4})})
    write_weights(weights, on_meta(weights), tmp_path / "ours")
    (tmp_path / "ours" / "config.json").write_text(windowed.model_dump_json())
    with pytest.raises(ValueError, match="knows neither longrope nor a sliding window; Phi3ForCausalLM, layout phi3"):
        convert(tmp_path / "ours", tmp_path / "official", "official", language="internlm2")
    convert(tmp_path / "ours", tmp_path / "official", "official")
    assert equal(open_weights(tmp_path / "official"), laid("phi3", "official")[1])


def test_transformers_own_encoder_becomes_the_official_one(tmp_path: Path) -> None:
    convert(write("300m_style", "official", tmp_path / "official"), tmp_path / "native")
    InternVLVisionModel.from_pretrained(tmp_path / "native").save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    left_out = ("norm_type", "use_qk_norm", "use_mean_pooling")  # the class's own values need not be there
    fields = {name: value for name, value in json.loads(path.read_text()).items() if name not in left_out}
    path.write_text(json.dumps(fields))
    convert(tmp_path / "saved", tmp_path / "back")
    assert equal(open_weights(tmp_path / "back"), made("300m_style")[1])
    assert describe(json.loads((tmp_path / "back" / "config.json").read_text())).config == LAYER


def test_the_names_of_older_native_exports_are_read(tmp_path: Path) -> None:
    fields, weights = laid("llama", "native")
    older = {}
    for name, value in weights.items():
        old = name.removeprefix("model.").replace("language_model.", "language_model.model.", 1)
        older["language_model.lm_head.weight" if name == "lm_head.weight" else old] = value
    write_weights(older, on_meta(older), tmp_path / "old")
    (tmp_path / "old" / "config.json").write_text(json.dumps(fields))
    convert(tmp_path / "old", tmp_path / "ours", "ours")
    assert equal(open_weights(tmp_path / "ours"), made("llama")[1])


def test_the_image_token_is_looked_for_in_the_tokenizer(tmp_path: Path) -> None:
    source = write("phi3", "official", tmp_path / "official")
    fields = json.loads((source / "config.json").read_text())
    del fields["image_token_id"]
    (source / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="give --image-token-id"):
        convert(source, tmp_path / "none")
    (source / "tokenizer.json").write_text('{"added_tokens": [{"id": 5, "content": "<IMG_CONTEXT>"}]}')
    convert(source, tmp_path / "five")
    assert (tmp_path / "five" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    (source / "added_tokens.json").write_text('{"<img>": 2, "<IMG_CONTEXT>": 4}')
    convert(source, tmp_path / "four")
    convert(source, tmp_path / "given", image_token_id=6)
    found = [json.loads((tmp_path / each / "config.json").read_text()) for each in ("five", "four", "given")]
    assert [each["image_token_id"] for each in found] == [5, 4, 6]
