"""What a step of the generative and of the chat stage costs, against what a counter of FLOPs sees."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from generative_world import CONFIG, make_batch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.generative_objective import GenerativeObjective
from models.internvl import InternVL
from models.step_cost import step_cost
from models.step_work import StepCost

DEEP = CONFIG.model_copy(update={"text": CONFIG.text.model_copy(update={"num_hidden_layers": 8})})
IMAGE = 99
VISION = VisionConfig(
    image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=8, num_attention_heads=2, intermediate_size=64
)
TOWERS = DEEP.model_copy(update={"vision": VISION})


def counted(objective: nn.Module, given: Mapping[str, Tensor]) -> int:
    """Return the FLOPs of a forward and a backward pass; the counter knows no fused attention of a CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(given)["loss"].backward()
    return int(counter.get_total_flops())


def equally_long(rows: int = 16) -> dict[str, Tensor]:
    """Return a generative batch whose texts all fill their widths, those of the towers too: nothing is padding."""
    batch = make_batch(rows)
    for name, width in {"summary": 8, "caption": 8, "other": 8, "prompted": 9}.items():
        ids = torch.full((rows, width), 5)
        batch |= {f"{name}_input_ids": ids, f"{name}_attention_mask": torch.ones_like(ids)}
    labels = batch["prompted_input_ids"].clone()
    labels[:, :2] = IGNORE
    return batch | {"prompted_labels": labels, "judged": batch["judged"].clamp(max=1)}


@pytest.mark.parametrize("extra", [{}, {"paired": True}, {"paired": True, "image_negatives": True}])
def test_a_generative_step(extra: dict[str, bool]) -> None:
    torch.manual_seed(0)
    objective = GenerativeObjective(InternVL(DEEP), **extra)
    given = equally_long()
    cost = step_cost(objective, given)
    assert cost.useful == pytest.approx(counted(objective, given), rel=0.01)
    after = step_cost(objective, given)
    assert after.useful == cost.useful and after.computed == pytest.approx(after.useful)


def test_what_the_towers_kept_costs_nothing() -> None:
    torch.manual_seed(0)
    objective = GenerativeObjective(InternVL(DEEP), vision_bytes=1 << 20, text_bytes=1 << 20)
    given = equally_long()
    first = step_cost(objective, given)
    with torch.no_grad():
        objective(given)
    again = {**given, "row": given["row"].clone()}
    found = counted(objective, again)
    cost = step_cost(objective, again)
    assert cost.useful == pytest.approx(found, rel=0.01)
    assert cost.useful < first.useful and cost.tokens == first.tokens - 16 * 8 - 16 * 5


def test_padding_of_captions_and_filled_pieces_are_computed_and_not_useful() -> None:
    objective = GenerativeObjective(InternVL(CONFIG), paired=True)
    given = make_batch(12)
    with torch.no_grad():
        objective(given)
    cost = step_cost(objective, given)
    assert 0 < cost.useful < cost.computed and 0 < cost.tokens < cost.places
    assert objective.passed[given["row"]].picture_places == 16, "two passes of eight"


def chat(select_layer: int = -1, **changes: Any) -> InternVLChat:
    torch.manual_seed(0)
    return InternVLChat(
        ChatConfig(
            vision=VISION,
            text=TextConfig(
                vocab_size=120, hidden_size=48, intermediate_size=96, num_hidden_layers=8, num_attention_heads=4
            ),
            image_context_token_id=IMAGE,
            eos_token_id=2,
            select_layer=select_layer,
            **changes,
        )
    )


def conversations(lengths: list[list[int]], width: int, pictures: bool = True) -> dict[str, Tensor]:
    """Return packed rows of samples, each with a picture of four tokens in front, and half of the rest learned."""
    ids = torch.full((len(lengths), width), 7)
    labels, index = torch.full_like(ids, IGNORE), torch.full_like(ids, -1)
    number = 0
    for row, samples in enumerate(lengths):
        start = 0
        for length in samples:
            if pictures:
                ids[row, start : start + 4] = IMAGE
            labels[row, start + 4 + (length - 4) // 2 : start + length] = 7
            index[row, start : start + length] = number
            start, number = start + length, number + 1
    batch = {"input_ids": ids, "labels": labels, "sample_index": index}
    return batch | ({"pixel_values": torch.randn(number, 3, 32, 32)} if pictures else {})


@pytest.mark.parametrize("frozen", [(), ("vision_model",), ("vision_model", "language_model"), ("language_model",)])
def test_a_chat_step_with_parts_frozen(frozen: tuple[str, ...]) -> None:
    model = chat()
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    given = conversations([[14, 10], [24]], 24)
    cost = step_cost(model, given)
    assert cost.useful == cost.computed and cost.tokens == cost.places == 48
    assert cost.useful == pytest.approx(counted(model, given), rel=0.01)


@pytest.mark.parametrize("frozen", [(), ("vision_model",)])
@pytest.mark.parametrize(("connector", "towers"), [("mlp", None), ("two_mlp", TOWERS)])
def test_a_chat_step_with_the_connectors_of_2023(
    connector: str, towers: InternVLConfig | None, frozen: tuple[str, ...]
) -> None:
    model = chat(-2, connector=connector, towers=towers, downsample_ratio=1.0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith((*frozen, "qllama", "query_tokens")))
    seen, words = model.config.num_image_token, torch.full((8,), 7)
    ids = torch.cat([torch.full((seen,), IMAGE), words, words, torch.full((seen,), IMAGE), words])[None]
    labels = torch.where(ids == IMAGE, IGNORE, ids)
    index = torch.tensor([0] * (seen + 16) + [1] * (seen + 8))[None]
    given = {"input_ids": ids, "labels": labels, "sample_index": index, "pixel_values": torch.randn(2, 3, 32, 32)}
    cost = step_cost(model, given)
    assert cost.tokens == cost.places == 2 * seen + 24 and (cost.useful < cost.computed) == (towers is None)
    assert cost.computed == pytest.approx(counted(model, given), rel=0.01)


def test_a_chat_step_without_pictures() -> None:
    model = chat()
    given = conversations([[12, 12]], 24, pictures=False)
    assert step_cost(model, given).useful == pytest.approx(counted(model, given), rel=0.01)


def test_layers_above_the_shown_one_and_padding_are_not_useful() -> None:
    shown, all_of = conversations([[14, 10], [16]], 24), conversations([[14, 10], [24]], 24)
    model = chat(select_layer=-3)
    for layer in model.vision_model.encoder.layers[6:]:
        layer.requires_grad_(False)
    cost = step_cost(model, shown)
    assert cost.useful < cost.computed and (cost.tokens, cost.places) == (40, 48)
    assert cost.computed == pytest.approx(counted(model, shown), rel=0.01)
    assert cost.useful < step_cost(model, all_of).useful < step_cost(chat(), all_of).useful


def test_a_tile_that_stands_for_no_picture_is_not_useful() -> None:
    given = conversations([[14, 10]], 24)
    blank = torch.cat([given["pixel_values"], torch.zeros(1, 3, 32, 32)])
    padded = {**given, "pixel_values": blank, "image_flags": torch.tensor([1, 1, 0])}
    one, other = step_cost(chat(), given), step_cost(chat(), padded)
    assert one.useful == other.useful and one.computed < other.computed


def test_rows_that_are_not_packed_end_with_what_they_learn() -> None:
    given = {"input_ids": torch.full((2, 9), 7), "labels": torch.full((2, 9), IGNORE)}
    given["labels"][0, 3:5] = given["labels"][1, 3:] = 7
    cost = step_cost(chat(), given)
    assert (cost.tokens, cost.places) == (14, 18) and isinstance(cost, StepCost)
    assert cost.useful < cost.computed
