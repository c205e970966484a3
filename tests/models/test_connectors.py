"""The connectors of 2023: what is shown to the language model, and in which order."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.internvl import InternVL
from models.layouts import config_in
from models.recognise import Whose, describe, recognise

VISION = VisionConfig(
    image_size=16, patch_size=4, hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
    initializer_factor=1.0,
)  # fmt: skip
TEXT = TextConfig(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
TOWERS = InternVLConfig(
    vision=VISION,
    text=TEXT.model_copy(update={"hidden_size": 20, "vocab_size": 30}),
    embed_dim=8,
    attn_pool_num_heads=2,
    num_query_token=5,
)


def made(connector: str, **changes: Any) -> InternVLChat:
    torch.manual_seed(0)
    fields = {"connector": connector, "towers": TOWERS if connector == "two_mlp" else None, "select_layer": -2}
    fields |= {"downsample_ratio": 1.0, "image_context_token_id": 39, "eos_token_id": 2}
    return InternVLChat(ChatConfig(vision=VISION, text=TEXT, **{**fields, **changes})).eval()


def test_the_picture_s_tokens_pass_two_layers_without_the_class_token() -> None:
    model, pixels = made("mlp"), torch.randn(2, 3, 16, 16)
    shown = model.image_features(pixels)
    assert shown.shape == (2, 16, 16) and model.config.num_image_token == 16
    state = model.vision_model(pixels).hidden_states[-2]
    assert torch.equal(shown, model.mm_projector(state[:, 1:]))
    assert not torch.allclose(shown[:, :15], model.mm_projector(state[:, :-1])[:, :15])


def test_the_queries_come_first_and_have_seen_the_whole_encoder() -> None:
    model, pixels = made("two_mlp"), torch.randn(2, 3, 16, 16)
    shown = model.image_features(pixels)
    assert shown.shape == (2, 5 + 16, 16) and model.config.num_image_token == 21
    towers = InternVL(TOWERS).eval()
    towers.vision_model.load_state_dict(model.vision_model.state_dict())
    towers.qllama.load_state_dict(model.qllama.state_dict())
    with torch.no_grad():
        towers.query_tokens.copy_(model.query_tokens)
    asked, _ = towers.ask(towers.see(pixels))
    assert torch.allclose(shown[:, :5], model.mlp2(asked), atol=1e-6)
    assert torch.allclose(shown[:, 5:], model.mlp1(model.vision_model(pixels).hidden_states[-2][:, 1:]), atol=1e-6)


@pytest.mark.parametrize("connector", ["mlp", "two_mlp"])
def test_it_learns_and_writes_what_the_whole_text_says(connector: str) -> None:
    model, pixels = made(connector), torch.randn(2, 3, 16, 16)
    places = [39] * model.config.num_image_token
    ids = torch.tensor([[5, *places, 6, 7, 8], [9, *places, 11, 12, 13]])
    labels = ids.clone()
    labels[:, :-2] = IGNORE
    model({"input_ids": ids, "labels": labels, "pixel_values": pixels})["loss"].backward()
    for name, part in model.connector_parts().items():
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in part.parameters()), name
    written = model.generate(ids, torch.ones_like(ids), pixels, max_new_tokens=3)
    for row in (0, 1):
        text = ids[row : row + 1]
        for token in written[row]:
            logits = model.logits(text, torch.ones_like(text), pixels[row : row + 1])
            assert int(logits[0, -1].argmax()) == int(token)
            text = torch.cat([text, token.view(1, 1)], dim=1)


@pytest.mark.parametrize("layout", ["official", "native"])
def test_another_layout_keeps_where_texts_begin_and_has_no_such_connector(layout: Whose) -> None:
    usual = ChatConfig(
        vision=VISION,
        text=TEXT.model_copy(update={"bos_token_id": 7}),
        image_context_token_id=39,
        eos_token_id=2,
    )
    again = describe(config_in(layout, usual, "LlamaForCausalLM"), image_token_id=39).config
    assert isinstance(again, ChatConfig) and again.text.bos_token_id == 7
    for connector in ("mlp", "two_mlp"):
        with pytest.raises(ValueError, match=f"connector {connector}; only ours is possible"):
            config_in(layout, made(connector).config, "LlamaForCausalLM")
    own = made("two_mlp").config
    found = recognise("it", config_in("ours", own, "LlamaForCausalLM"))
    assert found.chat is not None and found.chat.connector == "two_mlp" and found.image_tokens == own.num_image_token


@pytest.mark.parametrize(
    ("connector", "changes", "message"),
    [
        ("mlp", {"downsample_ratio": 0.5}, "unshuffles nothing"),
        ("two_mlp", {"towers": None}, "two_mlp needs towers"),
        ("mlp", {"towers": TOWERS}, "mlp has towers"),
        (
            "two_mlp",
            {"towers": TOWERS.model_copy(update={"vision": VISION.model_copy(update={"hidden_size": 12})})},
            "looks at 12 numbers a patch and the encoder gives 24",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(connector: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        made(connector, **changes)
