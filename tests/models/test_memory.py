"""Bytes of a training: as published, and as many as AdamW takes."""

import torch

from models.config import INTERN_VIT_6B_224, VisionConfig
from models.counting import count, shapes
from models.intern_vit import InternVisionModel
from models.memory import PRECISIONS, checkpointed_bytes, memory
from models.sizes import SIZES


def test_published_memory() -> None:
    def trained(name: str) -> int:
        return memory(count(shapes(SIZES[name])), "bfloat16 mixed").training

    assert round(trained("InternVL-C") / 1e9) == 202 and round(trained("InternVL-Chat-V1-5") / 1e9) == 408
    whole, new = count(shapes(SIZES["InternVL-14B-224px"])), 1_010_334_467
    stage_2 = memory(whole, "bfloat16 mixed", new)
    assert stage_2.training == 2 * whole + 14 * new
    assert round((stage_2.training - 16 * new) / 1e9, 1) == 25.6
    weights = {
        "InternViT-6B-224px": 11.8, "InternVL-C": 25.2, "InternVL-14B-224px": 27.7, "InternVL-Chat-V1-5": 51.0,
        "InternVL2-40B": 80.1,
    }  # fmt: skip
    for name, wanted in weights.items():
        assert round(memory(count(shapes(SIZES[name])), "bfloat16").weights / 1e9, 1) == wanted
    kept = [round(checkpointed_bytes(INTERN_VIT_6B_224, tokens) / 1e6) for tokens in (99, 257, 1025)]
    assert kept == [30, 79, 315]


def test_adamw_keeps_as_many_bytes_as_counted() -> None:
    config = VisionConfig(
        image_size=48, patch_size=8, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=80
    )
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        model = InternVisionModel(config).to(dtype)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        model(torch.zeros(1, 3, 48, 48, dtype=dtype)).last_hidden_state.float().sum().backward()
        optimiser.step()
        parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
        moments = sum(
            each.numel() * each.element_size()
            for state in optimiser.state.values()
            for name, each in state.items()
            if name != "step"
        )
        need = memory(sum(parameter.numel() for parameter in parameters), precision)  # type: ignore[arg-type]
        assert moments == need.adamw
        assert sum(each.numel() * each.element_size() for each in parameters) == need.weights == need.gradients
    assert PRECISIONS == ("float32", "bfloat16 mixed", "bfloat16")
