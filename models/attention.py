"""One attention function for every model: flash-attn where it can run, PyTorch's own elsewhere."""

from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F

Implementation = Literal["auto", "flash", "sdpa", "reference"]


@cache
def _flash() -> Any:
    """Return flash-attn's function, None where the extra `[gpu]` is not installed."""
    try:
        from flash_attn import flash_attn_func
    except ImportError:
        return None
    return flash_attn_func


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    implementation: Implementation = "auto",
) -> torch.Tensor:
    """Return softmax(query key^T / sqrt(head_dim) + mask) value.

    Args:
        query: Shape (batch, heads, queries, head_dim).
        key: Shape (batch, heads, keys, head_dim).
        value: As `key`.
        mask: Booleans that say what may be seen, or numbers that are added; broadcastable to
            (batch, heads, queries, keys).
        causal: Whether a query sees only keys at its place and before; not together with `mask`.
        implementation: `auto` takes flash-attn on CUDA in half precision without a mask, else SDPA.

    Returns:
        Shape (batch, heads, queries, head_dim).

    Raises:
        ValueError: Both a mask and `causal` are given, or flash is asked for where it cannot run.
    """
    if mask is not None and causal:
        raise ValueError("give either a mask or causal=True: a mask can hold the causal part itself")
    half = query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)
    can_flash = half and mask is None and _flash() is not None
    if implementation == "flash" and not can_flash:
        raise ValueError(
            "flash attention needs the extra [gpu], CUDA tensors in half precision and no mask; "
            "use implementation='auto'"
        )
    if implementation == "flash" or (implementation == "auto" and can_flash):
        found = _flash()(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), causal=causal)
        return torch.as_tensor(found).transpose(1, 2)
    if implementation == "reference":
        return _reference(query, key, value, mask, causal)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)


def _reference(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    """Return attention as the formula says it, for tests."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return torch.matmul(scores.softmax(dim=-1), value)
