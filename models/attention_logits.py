"""How large the numbers grow that attention's softmax takes: a training fails where they do (arXiv:2302.05442)."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.intern_vit import InternAttention, InternVisionModel


def _watch(attention: nn.Module, given: tuple[Tensor], found: list[float]) -> None:
    assert isinstance(attention, InternAttention)
    (hidden,) = given
    query, key, _ = attention.qkv(hidden).chunk(3, dim=-1)
    if attention.qk_normalization:
        query, key = attention.q_norm(query), attention.k_norm(key)
    query, key = (each.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2).float() for each in (query, key))
    found.append(float((query @ key.transpose(-2, -1)).abs().max() * query.shape[-1] ** -0.5))


@torch.no_grad()
def attention_logits(model: InternVisionModel, pixels: Float[Tensor, "batch channels height width"]) -> list[float]:
    """Return the largest magnitude of query times key, scaled as attention does it, block by block."""
    found: list[float] = []
    blocks = [block for block in model.modules() if isinstance(block, InternAttention)]
    hooks = [block.register_forward_pre_hook(partial(_watch, found=found)) for block in blocks]
    training = model.training
    try:
        model.eval()(pixels)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found
