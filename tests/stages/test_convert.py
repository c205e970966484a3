"""Models brought from one code's layout into another's and back: bitwise, in little memory, all faults named."""

import json
import weakref
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import InternVLForConditionalGeneration, InternVLVisionModel

from models.chat import InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.decoders import BY_LAYOUT
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.layouts import config_in, to_layout
from models.recognise import Model, Whose, describe
from models.renaming import State, WeightsError, fill
from stages import convert as conversions
from stages import model_files
from stages.convert import convert
from stages.pth_files import write_pth
from stages.weight_files import INDEX, on_meta, open_weights, write_weights

RMS = VisionConfig(
    image_size=16, patch_size=4, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)
LAYER = RMS.model_copy(
    update={"norm_type": "layer_norm", "qk_normalization": False, "qkv_bias": True, "drop_path_rate": 0.1}
)
TEXT = TextConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, rope_theta=5e4, rms_norm_eps=1e-5,
)  # fmt: skip
TOWERS = InternVLConfig(vision=RMS, text=TEXT, embed_dim=8, attn_pool_num_heads=2, num_query_token=5)
TALK = {"template": "internlm2-chat", "system_message": "Be brief.", "context_length": 99, "max_dynamic_patch": 6}
CHATS = {"llama": RMS, "qwen2": LAYER, "internlm2": LAYER, "phi3": RMS}
MODELS = ("6b_style", "300m_style", "c", "g", *CHATS)


@cache
def made(name: str) -> tuple[Model, dict[str, torch.Tensor], str]:
    """Return a tiny model's configuration, its weights under our names, and its decoder's class."""
    decoder = BY_LAYOUT.get(name, BY_LAYOUT["llama"]).class_name
    if name in CHATS:
        text = TEXT.model_copy(update={"qkv_bias": name == "qwen2"})
        config: Model = ChatConfig(
            vision=CHATS[name], text=text, image_context_token_id=4, eos_token_id=3, ps_version="v2", **TALK
        )
        model: torch.nn.Module = InternVLChat(config)
    elif name in ("c", "g"):
        config = TOWERS
        model = InternVL(TOWERS, generative=name == "g")
    else:
        config = RMS if name == "6b_style" else LAYER
        model = InternVisionModel(config)
    generator = torch.Generator().manual_seed(3)
    weights = {key: value + 0.2 * torch.randn(value.shape, generator=generator) for key, value in
               model.state_dict().items()}  # fmt: skip
    if name == "c":  # as it is published
        del weights["qllama.lm_head.weight"]
    return config, weights, decoder


def laid(name: str, layout: Whose) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    config, weights, decoder = made(name)
    return config_in(layout, config, decoder), dict(to_layout(layout, weights, config, decoder))


def write(name: str, layout: Whose, path: Path) -> Path:
    fields, weights = laid(name, layout)
    if layout == "pth":
        torch.save(weights, path.with_suffix(".pth"))
        path.with_suffix(".json").write_text(json.dumps(fields))
        return path.with_suffix(".pth")
    write_weights(weights, on_meta(weights), path, shard_bytes=20_000)
    (path / "config.json").write_text(json.dumps(fields))
    return path


def equal(ours: State, theirs: State) -> bool:
    return set(ours) == set(theirs) and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours
    )


def possible(name: str, layout: Whose) -> bool:
    return not (layout == "native" and name in ("c", "g")) and not (layout == "pth" and name in CHATS)


TRIPS: list[tuple[str, Whose, Whose]] = [
    (name, first, second)
    for name in MODELS
    for first, second in (
        ("official", "native"), ("official", "ours"), ("ours", "native"), ("ours", "pth"), ("native", "official"),
        ("official", "pth"), ("pth", "ours"),
    )
    if possible(name, first) and possible(name, second)
]  # fmt: skip


@pytest.mark.parametrize(("name", "first", "second"), TRIPS)
def test_there_and_back_gives_the_same_to_the_bit(tmp_path: Path, name: str, first: Whose, second: Whose) -> None:
    source = write(name, first, tmp_path / "source")
    ending = {"pth": ".pth"}
    there = convert(source, tmp_path / f"there{ending.get(second, '')}", second, shard_bytes=20_000)
    assert (there.came, there.became) == (first, second)
    middle = open_weights(tmp_path / f"there{ending.get(second, '')}")
    assert equal(middle, laid(name, second)[1])
    language = name if first == "official" and second == "ours" and name in CHATS else None
    convert(tmp_path / f"there{ending.get(second, '')}", tmp_path / f"back{ending.get(first, '')}", first,
            language=language)  # fmt: skip
    back = tmp_path / f"back{ending.get(first, '')}"
    assert equal(open_weights(back), laid(name, first)[1])
    fields = json.loads((back.with_suffix(".json") if first == "pth" else back / "config.json").read_text())
    assert describe(fields).config == made(name)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays(tmp_path: Path, dtype: torch.dtype) -> None:
    fields, weights = laid("internlm2", "official")
    half = {name: value.to(dtype) for name, value in weights.items()}
    write_weights(half, on_meta(half), tmp_path / "official")
    (tmp_path / "official" / "config.json").write_text(json.dumps(fields))
    convert(tmp_path / "official", tmp_path / "native")
    assert InternVLForConditionalGeneration.from_pretrained(tmp_path / "native").dtype == dtype
    convert(tmp_path / "native", tmp_path / "back")
    assert equal(open_weights(tmp_path / "back"), half)


# What transformers reads and writes.


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


# The first release's files.


@pytest.mark.parametrize("nested", [False, True])
def test_the_first_releases_files_are_read_without_a_configuration(tmp_path: Path, nested: bool) -> None:
    weights = laid("c", "pth")[1]
    assert {"cls_token", "blocks.1.ls2.gamma", "transformer.norm.weight", "patch_embed.proj.bias"} < set(weights)
    torch.save({"module": weights} if nested else weights, tmp_path / "internvl_c.pth")
    done = convert(tmp_path / "internvl_c.pth", tmp_path / "c", shard_bytes=20_000)
    assert done.what == "InternVL-C" and done.became == "official" and "--config" in done.notes[0]
    assert equal(open_weights(tmp_path / "c"), made("c")[1]) and not (tmp_path / "c" / "config.json").exists()
    (tmp_path / "mine.json").write_text(json.dumps(laid("c", "official")[0]))
    done = convert(tmp_path / "internvl_c.pth", tmp_path / "ours", "ours", config=tmp_path / "mine.json")
    assert describe(json.loads((tmp_path / "ours" / "config.json").read_text())).config == TOWERS and not done.notes

    vision = {**laid("6b_style", "pth")[1], "clip_projector.norm1_q.bias": torch.zeros(2)}
    torch.save(vision, tmp_path / "vit.pth", _use_new_zipfile_serialization=not nested)
    assert convert(tmp_path / "vit.pth", tmp_path / "vit").what == "InternViT"
    assert equal(open_weights(tmp_path / "vit"), made("6b_style")[1])


def test_a_pth_of_a_published_composition_is_known_by_its_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = model_files.SIZES["InternVL-C"].model_copy(update={"name": "tiny", "vision": RMS, "towers": TOWERS})
    monkeypatch.setattr("models.shapes.SIZES", {"tiny": size})
    monkeypatch.setattr(model_files, "SIZES", {"tiny": size})
    torch.save(laid("c", "pth")[1], tmp_path / "c.pth")
    done = convert(tmp_path / "c.pth", tmp_path / "c", "ours")
    assert done.notes == ["taken for tiny, whose shapes these are"]
    assert describe(json.loads((tmp_path / "c" / "config.json").read_text())).config == TOWERS


def test_the_unused_head_of_internvl_c_stays_behind_and_it_is_said(tmp_path: Path) -> None:
    fields, weights = laid("c", "ours")
    whole = {**weights, "qllama.lm_head.weight": torch.ones(40, 32)}
    write_weights(whole, on_meta(whole), tmp_path / "ours")
    (tmp_path / "ours" / "config.json").write_text(json.dumps(fields))
    done = convert(tmp_path / "ours", tmp_path / "c.pth")
    assert done.became == "pth" and "qllama.lm_head.weight stays behind" in done.notes[0]
    assert equal(open_weights(tmp_path / "c.pth"), laid("c", "pth")[1])
    convert(tmp_path / "ours", tmp_path / "official")
    assert equal(open_weights(tmp_path / "official"), whole), "where it is known it is kept"


# Faults.


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


# Memory.


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


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("internlm2", "official", "native"), ("internlm2", "native", "official"), ("phi3", "ours", "official"),
        ("qwen2", "native", "ours"), ("g", "ours", "pth"), ("c", "pth", "official"), ("300m_style", "native", "pth"),
    ],
)  # fmt: skip
def test_a_conversion_holds_no_more_than_a_few_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, first: Whose, second: Whose
) -> None:
    source = write(name, first, tmp_path / "source")
    read, written = [], []

    def counted_reads(path: Path) -> State:
        read.append(Counted(open_weights(path)))
        return read[-1]

    def counted(writer: Any) -> Any:
        def write_counted(weights: State, *rest: Any) -> Any:
            written.append(Counted(weights))
            read[0].most = 0
            return writer(written[-1], *rest)

        return write_counted

    monkeypatch.setattr(model_files, "open_weights", counted_reads)
    monkeypatch.setattr(model_files, "on_meta", lambda weights: on_meta(weights.weights))
    monkeypatch.setattr(conversions, "on_meta", lambda weights: on_meta(getattr(weights, "weights", weights)))
    monkeypatch.setattr(conversions, "write_weights", counted(write_weights))
    monkeypatch.setattr(conversions, "write_pth", counted(write_pth))
    convert(source, tmp_path / ("target.pth" if second == "pth" else "target"), second, shard_bytes=10_000)
    (reads,), (writes,) = read, written
    assert len(reads) > 25
    assert 1 <= reads.most <= 4 and 1 <= writes.most <= 2, "three pieces of a fused weight, and the last one written"
    assert reads.alive + writes.alive <= 2


# Places and choices.


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


def test_a_model_in_its_own_layout_again_gets_other_shards(tmp_path: Path) -> None:
    source = write("internlm2", "official", tmp_path / "official")
    assert (source / INDEX).exists()
    convert(source, tmp_path / "one", "official")
    assert not (tmp_path / "one" / INDEX).exists() and equal(open_weights(tmp_path / "one"), open_weights(source))
