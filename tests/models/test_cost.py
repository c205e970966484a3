"""The formulas against PyTorch's own counter, and against what was published."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.attention import using
from models.chat import InternVLChat
from models.composition import ChatPart, Language, Size
from models.config import INTERN_VIT_6B_224, INTERN_VIT_300M_448, ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.cost import (
    ConversationCost,
    connector_macs,
    decoder_macs,
    forward_work,
    pooling_macs,
    query_macs,
    token_macs,
    vision_macs,
)
from models.counting import build
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.qllama import LlamaForCausalLM
from models.sizes import INTERNVL_14B, LLAMA_7B_TEXT, SIZES, VARIANTS, VIT_6B_448

SMALL = VisionConfig(
    image_size=48, patch_size=8, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80
)
GROUPED = TextConfig(
    vocab_size=120, hidden_size=48, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, qkv_bias=True,
)  # fmt: skip
TOWERS = InternVLConfig(
    vision=SMALL, text=GROUPED, embed_dim=24, attn_pool_num_heads=4, num_query_token=6, cross_attention_frequency=2
)


def counted(work: Callable[[], Any]) -> int:
    """Return multiply-accumulates on the meta device, where attention is two products over all pairs of tokens."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    assert counter.get_total_flops() % 2 == 0
    return int(counter.get_total_flops()) // 2


def meta(make: Callable[[], Any]) -> Any:
    """Return a frozen model without memory; the counter cannot follow views of parameters that want gradients."""
    with torch.device("meta"):
        return make().requires_grad_(False)


@pytest.mark.parametrize("size", [48, 32, 64])
def test_a_picture(size: int) -> None:
    model = meta(lambda: InternVisionModel(SMALL))
    trained, seen = SMALL.grid, size // SMALL.patch_size
    # Positions are interpolated once a batch, in one direction and then in the other.
    positions = 0 if seen == trained else SMALL.hidden_size * seen * trained * (trained + seen)
    for pictures in (1, 5):
        cost = counted(lambda pictures=pictures: model(torch.empty(pictures, 3, size, size)))
        assert cost == pictures * vision_macs(SMALL, size) + positions


def test_a_masked_picture_costs_its_kept_patches_alone() -> None:
    model = meta(lambda: InternVisionModel(SMALL))
    size = SMALL.patch_size
    keep = torch.ones(1, 48 // size, 48 // size, dtype=torch.bool, device="meta")
    assert vision_macs(SMALL, kept=12) == counted(lambda: model(torch.empty(1, 12, 3 * size * size), keep))


@pytest.mark.parametrize("config", [INTERN_VIT_6B_224, VIT_6B_448, INTERN_VIT_300M_448])
def test_a_picture_at_full_size(config: VisionConfig) -> None:
    model = meta(lambda: InternVisionModel(config)).eval()
    side = config.image_size
    assert vision_macs(config) == counted(lambda: model(torch.empty(1, 3, side, side)))


@pytest.mark.parametrize("config", [GROUPED, GROUPED.model_copy(update={"num_key_value_heads": None}), LLAMA_7B_TEXT])
def test_a_text(config: TextConfig) -> None:
    model = meta(lambda: LlamaForCausalLM(config))
    ids = torch.zeros(1, 20, dtype=torch.long, device="meta")
    assert decoder_macs(config, 20, head=True) == counted(lambda: model(ids))
    assert decoder_macs(config, 20) == counted(lambda: model.model(model.model.embed_tokens(ids)))
    _, cache = model.model(model.model.embed_tokens(ids))
    assert decoder_macs(config, 1, past=20) == counted(
        lambda: model.model(model.model.embed_tokens(ids[:, :1]), past=cache)
    )


CHAT = ChatConfig(vision=SMALL, text=GROUPED, image_context_token_id=119, eos_token_id=2)
SIZES_OF_THREE = [(13 + 2 * 9, 2, 4), (7, 0, 3), (20 + 9, 1, 11)]
"""Tokens, tiles and learned places of three conversations."""


def packed() -> dict[str, torch.Tensor]:
    ids, labels, index = [], [], []
    for number, (tokens, tiles, learned) in enumerate(SIZES_OF_THREE):
        ids += [119] * 9 * tiles + [5] * (tokens - 9 * tiles)
        labels += [-100] * (tokens - learned) + [5] * learned
        index += [number] * tokens
    rows = {"input_ids": ids, "labels": labels, "sample_index": index}
    return {"pixel_values": torch.randn(3, 3, 48, 48)} | {name: torch.tensor([row]) for name, row in rows.items()}


@pytest.mark.parametrize(("vision", "language"), [(True, True), (False, True), (False, False)])
def test_conversations_cost_what_a_packed_step_computes(vision: bool, language: bool) -> None:
    chat = InternVLChat(CHAT)
    chat.vision_model.requires_grad_(vision)
    chat.language_model.requires_grad_(language)
    with using("reference"), FlopCounterMode(display=False) as counter:
        chat(packed())["loss"].backward()
    cost = ConversationCost.of(CHAT, vision_learns=vision, language_learns=language)
    ours = sum(cost(*size) for size in SIZES_OF_THREE)
    # Pixels have no gradient, so the patch embedding of an encoder that learns has two passes.
    pixels = 3 * SMALL.grid**2 * 3 * SMALL.patch_size**2 * SMALL.hidden_size if vision else 0
    assert 2 * (ours - pixels) == counter.get_total_flops()


def test_queries_are_part_of_what_a_tile_costs() -> None:
    given = {"connector": "two_mlp", "towers": TOWERS, "downsample_ratio": 1.0}
    config = ChatConfig(vision=SMALL, text=GROUPED, image_context_token_id=119, eos_token_id=2, **given)
    places = SMALL.grid**2 + TOWERS.num_query_token
    chat = InternVLChat(config)
    for frozen in (chat.vision_model, chat.qllama, chat.query_tokens):
        frozen.requires_grad_(False)
    ids = torch.tensor([[119] * places + [5] * 4])
    labels, index = ids.masked_fill(ids == 119, -100), torch.zeros_like(ids)
    batch = {"pixel_values": torch.randn(1, 3, 48, 48), "input_ids": ids, "labels": labels, "sample_index": index}
    with using("reference"), FlopCounterMode(display=False) as counter:
        chat(batch)["loss"].backward()
    ours = ConversationCost.of(config, vision_learns=False)(places + 4, 1, 4)
    # No norm stands in front of these connectors: nothing goes back behind their first layers.
    first = SMALL.grid**2 * SMALL.hidden_size + TOWERS.num_query_token * GROUPED.hidden_size
    assert 2 * (ours - first * GROUPED.hidden_size) == counter.get_total_flops()


@pytest.mark.parametrize("config", [TOWERS, INTERNVL_14B])
def test_towers_and_queries(config: InternVLConfig) -> None:
    model = meta(lambda: InternVL(config))
    side, width = config.vision.image_size, config.text.hidden_size
    seen = config.vision.grid**2 + 1
    pixels = torch.empty(1, 3, side, side, device="meta")
    vision = torch.empty(1, seen, config.vision.hidden_size, device="meta")
    ids = torch.zeros(1, 9, dtype=torch.long, device="meta")
    pooling = pooling_macs(config.vision.hidden_size, seen, config.embed_dim)
    queries = query_macs(config, seen)
    second = pooling_macs(width, config.num_query_token, config.embed_dim)
    assert pooling == counted(lambda: model.pool_image(vision))
    assert queries == counted(lambda: model.ask(vision))
    size = Size(name="it", kind="generative", vision=config.vision, towers=config)
    work = {each.label: each.macs for each in forward_work(size, text_tokens=9)}
    image = counted(lambda: model.encode_image(pixels))
    tower = model.qllama.model
    # `encode_text` looks at how long texts are, which tensors without memory cannot tell.
    text = counted(lambda: tower(tower.embed_tokens(ids))[0][:, -1] @ model.text_projection)
    both = counted(lambda: model.encode_image_g(pixels))
    assert both == image + queries + second
    assert work["per image, with pooling (C)"] == image and work["per image, both views (G)"] == both
    assert work["per text of 9 tokens"] == text
    assert work["per pair (C), text of 9 tokens"] == image + text
    assert work["per pair (G), text of 9 tokens"] == both + text


def chat_of(vision: VisionConfig, text: TextConfig, ratio: float) -> Size:
    part = ChatPart(downsample_ratio=ratio, template="Hermes-2")
    return Size(name="it", kind="chat", vision=vision, language=Language(source="", shape=text), chat=part)


@pytest.mark.parametrize("ratio", [0.5, 1 / 3, 1.0])
@pytest.mark.parametrize("tiles", [1, 3])
def test_a_chat(ratio: float, tiles: int) -> None:
    size = chat_of(SMALL, GROUPED, ratio)
    model: InternVLChat = build(size)  # type: ignore[assignment]
    work = {each.label: each.macs for each in forward_work(size, text_tokens=11, tiles=tiles)}
    pixels = torch.empty(tiles, 3, 48, 48, device="meta")
    picture = counted(lambda: model.image_features(pixels))
    assert picture == tiles * (vision_macs(SMALL) + connector_macs(size))
    whole = tiles * model.config.num_image_token + 11
    assert size.image_tokens == model.config.num_image_token
    embedded = torch.empty(1, whole, 48, device="meta")
    text = counted(lambda: model.language_model.lm_head(model.language_model.model(embedded)[0]))
    (pair,) = (macs for label, macs in work.items() if label.startswith("per pair"))
    assert pair == picture + text
    assert work["per token, weights alone"] == token_macs(GROUPED) + 120 * 48


def test_the_chat_model_of_the_paper() -> None:
    size = SIZES["InternVL-Chat-QLLaMA-7B"]
    model = build(size)
    tokens, queries = torch.empty(1, 256, 3200, device="meta"), torch.empty(1, 96, 4096, device="meta")
    found = counted(lambda: (model.mlp1(tokens), model.mlp2(queries)))  # type: ignore[operator]
    assert connector_macs(size) == found
    first = SIZES["InternVL-Chat-V1-0-7B"]
    tokens = torch.empty(1, 576, 3200, device="meta")
    assert connector_macs(first) == counted(lambda: build(first).mm_projector(tokens))  # type: ignore[operator]


def test_training_is_three_forward_passes() -> None:
    model = meta(lambda: LlamaForCausalLM(GROUPED)).requires_grad_()
    ids = torch.zeros(2, 20, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 2 * decoder_macs(GROUPED, 20, head=True)


def giga(macs: int) -> float:
    return round(macs / 1e9, 1)


def test_published_compute() -> None:
    sides = (196, 224, 336, 364, 448, 504)
    found = [giga(vision_macs(INTERN_VIT_6B_224, side)) for side in sides]
    assert found == [1174.2, 1536.6, 3506.6, 4135.2, 6370.4, 8169.2]
    # The published sum projects the masked patches too.
    projected = 98 * 588 * 3200
    assert giga(vision_macs(INTERN_VIT_6B_224, 196, kept=98) + projected) == 587.3
    assert giga(vision_macs(VIT_6B_448)) == 5972.3 and giga(vision_macs(INTERN_VIT_300M_448)) == 361.8
    assert [giga(decoder_macs(LLAMA_7B_TEXT, tokens)) for tokens in (32, 64, 80)] == [207.5, 415.5, 519.8]
    assert [giga(query_macs(INTERNVL_14B, seen)) for seen in (257, 577, 1025)] == [786.7, 924.9, 1118.5]


def test_table_11() -> None:
    found = [vision_macs(size.vision) / 1e9 for size in VARIANTS if size.vision is not None]
    for ours, published in zip(found, [1571, 1536, 1536, 1553, 1589, 1564], strict=True):
        assert abs(ours - published) < 1


def test_every_size_has_a_cost() -> None:
    for size in SIZES.values():
        work = forward_work(size)
        assert work and all(each.macs > 0 for each in work), size.name


@pytest.mark.parametrize(("name", "side"), [("InternViT-6B-224px", 225), ("InternVL2-1B", 14 * 31)])
def test_a_picture_that_does_not_divide_is_refused(name: str, side: int) -> None:
    with pytest.raises(ValueError, match=f"a picture of {side} pixels does not divide"):
        forward_work(SIZES[name], image_size=side)


def test_only_a_chat_model_has_a_connector() -> None:
    with pytest.raises(ValueError, match="has no connector"):
        connector_macs(SIZES["InternVL-C"])


def test_chat_config_matches() -> None:
    assert isinstance(build(chat_of(SMALL, GROUPED, 0.5)).config, ChatConfig)
