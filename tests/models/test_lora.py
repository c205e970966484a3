"""Adapters in our own layers: what learns, what they add, and dropout that belongs to a sample."""

import pytest
import torch

from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig, TextConfig, VisionConfig
from models.lora import (
    LANGUAGE_TARGETS,
    VISION_TARGETS,
    SeededDropout,
    TokenNoise,
    adapters,
    add_lora,
    added,
    merged,
)
from models.packing import Packing
from models.renaming import WeightsError

CONFIG = ChatConfig(
    vision=VisionConfig(
        image_size=16, patch_size=4, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, initializer_factor=1.0,
    ),
    text=TextConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    ),
    image_context_token_id=39,
    eos_token_id=2,
)  # fmt: skip
IDS = torch.tensor([[5, *[39] * 4, 6, 7, 8], [9, *[39] * 4, 11, 12, 13]])


def adapted(rate: float = 0.0) -> InternVLChat:
    torch.manual_seed(0)
    chat = InternVLChat(CONFIG).requires_grad_(False)
    add_lora(chat.vision_model.encoder.layers, VISION_TARGETS, 3, rate, chat.vision_noise)
    add_lora(chat.language_model.model.layers, LANGUAGE_TARGETS, 2, rate, chat.language_noise)
    return chat


def taught(rate: float = 0.0) -> InternVLChat:
    """Return a model whose adapters add something: their second matrices begin at zero."""
    chat = adapted(rate)
    with torch.no_grad():
        for name, value in chat.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.3)
    return chat


def batch() -> dict[str, torch.Tensor]:
    labels = IDS.clone()
    labels[:, :-2] = IGNORE
    return {
        "input_ids": IDS,
        "labels": labels,
        "pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)),
        "noise": torch.tensor([17, -5]),
        "sample_noise": torch.tensor([3, 2**62]),
    }


def test_each_product_of_a_block_gets_a_pair_of_matrices_and_they_alone_learn() -> None:
    chat = adapted()
    learns = {name for name, value in chat.named_parameters() if value.requires_grad}
    assert len(learns) == 2 * (2 * len(VISION_TARGETS) + 2 * len(LANGUAGE_TARGETS))
    assert all(".lora_" in name for name in learns)
    # The fused projection is one product: rank x (width + 3 width).
    first = [
        v.numel() for n, v in chat.named_parameters() if n.startswith("vision_model.encoder.layers.0.attn.qkv.lora")
    ]
    assert sum(first) == 3 * (16 + 48)


def test_untaught_adapters_change_nothing_and_merged_ones_say_the_same() -> None:
    pixels = batch()["pixel_values"]
    ones = torch.ones_like(IDS)
    fresh = adapted().eval()
    torch.manual_seed(0)
    bare = InternVLChat(CONFIG).eval()
    assert torch.equal(fresh.logits(IDS, ones, pixels), bare.logits(IDS, ones, pixels))
    chat = taught().eval()
    separate = chat.logits(IDS, ones, pixels)
    assert not torch.allclose(separate, bare.logits(IDS, ones, pixels), atol=1e-2)
    bare.load_state_dict(merged(chat))
    assert torch.allclose(bare.logits(IDS, ones, pixels), separate, atol=2e-5)


class Read(dict[str, torch.Tensor]):
    """Weights that remember which of them were read."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__(weights)
        self.names: list[str] = []

    def __getitem__(self, name: str) -> torch.Tensor:
        self.names.append(name)
        return super().__getitem__(name)


def test_adapters_are_added_tensor_by_tensor_as_in_memory() -> None:
    chat = taught()
    torch.manual_seed(0)
    base, learned = Read(InternVLChat(CONFIG).state_dict()), Read(adapters(chat))
    found, wanted = added(base, learned), merged(chat)
    assert list(found) == list(wanted) and not base.names and not learned.names
    name = "language_model.model.layers.1.self_attn.q_proj.weight"
    found[name]
    assert base.names == [name] and len(learned.names) == 2, "its own and its pair"
    assert all(torch.equal(found[each], wanted[each]) for each in wanted)
    assert not torch.equal(base[name], wanted[name])
    learned["language_model.model.layers.7.self_attn.q_proj.lora_A.weight"] = torch.zeros(2, 16)
    with pytest.raises(WeightsError, match=r"layers\.7\.self_attn\.q_proj\.lora_A\.weight' is not known"):
        added(base, learned)


def test_dropout_belongs_to_a_sample_and_not_to_a_batch() -> None:
    chat, whole = taught(0.3).train(), batch()
    found = chat(whole)["sample_loss"]
    assert torch.equal(found, chat(whole)["sample_loss"]), "the same again: nothing is drawn from torch's state"
    assert not torch.allclose(found, chat({**whole, "sample_noise": torch.tensor([4, 5])})["sample_loss"])
    assert not torch.allclose(found, chat({**whole, "noise": torch.tensor([4, 5])})["sample_loss"])
    for row in (0, 1):
        alone = chat({name: value[row : row + 1] for name, value in whole.items()})["sample_loss"]
        assert torch.allclose(alone, found[row : row + 1], rtol=1e-5)
    packed = {name: whole[name].view(1, -1) for name in ("input_ids", "labels")}
    packed["labels"] = torch.where(torch.arange(16)[None] == 8, IGNORE, packed["labels"])
    index = torch.arange(2).repeat_interleave(8)[None]
    assert torch.equal(Packing.of(index).positions, torch.arange(8).repeat(2)[None])
    together = chat({**whole, **packed, "sample_index": index})["sample_loss"]
    assert torch.allclose(together, found, rtol=1e-5)
    chat.language_noise.bits = None
    with pytest.raises(ValueError, match="sample_noise"):
        chat({name: value for name, value in whole.items() if name != "sample_noise"})


def test_dropout_drops_its_share_keeps_the_mean_and_rests_outside_training() -> None:
    noise = TokenNoise()
    noise.draw(torch.arange(50)[:, None].expand(-1, 20), torch.arange(20)[None])
    layers = [SeededDropout(0.25, noise, stream) for stream in (0, 1)]
    ones = torch.ones(50, 20, 64)
    found = [layer(ones) for layer in layers]
    for dropped in found:
        assert abs((dropped == 0).float().mean() - 0.25) < 0.005 and abs(dropped.mean() - 1) < 0.01
        for dim in (0, 1, 2):  # neither samples, places nor features share a fate
            assert ((dropped == 0).float().mean(dim=dim) - 0.25).abs().max() < 0.5
    assert not torch.equal(*found)
    assert torch.equal(layers[0].eval()(ones), ones)
