"""One attention function for every model: flash-attn where it can run, PyTorch's own elsewhere."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from models.packing import Packing

try:  # at import, because a compiler cannot look for packages while it traces
    import flash_attn
except ImportError:
    flash_attn = None

# One split: with several, the order of sums would depend on the other samples' lengths. PyTorch before 2.12 knows
# neither setting; its heads share no keys.
_VARLEN_SETTINGS = {
    name: value
    for name, value in {"enable_gqa": True, "num_splits": 1}.items()
    if name in inspect.signature(varlen_attn).parameters
}

Implementation = Literal["auto", "flash", "varlen", "sdpa", "reference"]
# Names of shapes say what a call must fit; tests alone check them, a run pays nothing.
Queries = Float[Tensor, "batch heads queries head_dim"]
Keys = Float[Tensor, "batch key_heads keys head_dim"]
Mask = Bool[Tensor, "... #queries #keys"] | Float[Tensor, "... #queries #keys"]

_default: Implementation = "auto"


@contextmanager
def using(implementation: Implementation) -> Iterator[None]:
    """Let every call within that names no implementation use this one."""
    global _default
    before, _default = _default, implementation
    try:
        yield
    finally:
        _default = before


def _flash() -> Any:
    """Return flash-attn's package, None where the extra `[gpu]` is not installed."""
    return flash_attn


def _varlen() -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return PyTorch's attention over samples of any length, and settings of it; it has CUDA kernels alone."""
    return varlen_attn, _VARLEN_SETTINGS


def _half_on_cuda(tensor: Tensor) -> bool:
    return tensor.is_cuda and tensor.dtype in (torch.float16, torch.bfloat16)


def attention(
    query: Queries,
    key: Keys,
    value: Keys,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    packing: Packing | None = None,
    window: int | None = None,
    implementation: Implementation | None = None,
) -> Queries:
    """Return softmax(query key^T / sqrt(head_dim) + mask) value.

    Args:
        query: Shape (batch, heads, queries, head_dim).
        key: Shape (batch, key heads, keys, head_dim); each key head serves heads / key heads queries.
        value: As `key`.
        mask: Booleans that say what may be seen, or numbers that are added; broadcastable to
            (batch, heads, queries, keys).
        causal: Whether a query sees only keys at its place and before; not together with `mask`.
        packing: Samples that share rows and see themselves alone; not together with `mask`.
        window: How many keys a query sees, the last of them at its own place; with `causal` alone.
        implementation: `flash` and `varlen` (packed samples only) run on CUDA in half precision
            without a mask, `sdpa` and the plain `reference` everywhere. `auto` takes the first of them
            that can run; when left out, what `using` says, else `auto`.

    Returns:
        Shape (batch, heads, queries, head_dim).

    Raises:
        ValueError: Arguments exclude each other, shapes do not fit, or an implementation is asked
            for where it cannot run.
    """
    _check(query, key, mask, causal, packing)
    if window is not None and not causal:
        raise ValueError("a window is for causal attention; a mask can hold the window itself (see `band`)")
    chosen = implementation or _default
    if chosen == "auto":
        names: tuple[Implementation, ...] = ("flash", "varlen")
        chosen = next((each for each in names if _cannot(each, query, mask, packing) is None), "sdpa")
    reason = _cannot(chosen, query, mask, packing)
    if reason is not None:
        raise ValueError(f"{chosen} attention {reason}; use implementation='auto'")
    if chosen == "flash" and packing is None:
        rows = (each.transpose(1, 2) for each in (query, key, value))
        limits = {} if window is None else {"window_size": (window - 1, 0)}
        return torch.as_tensor(_flash().flash_attn_func(*rows, causal=causal, **limits)).transpose(1, 2)
    if chosen in ("flash", "varlen"):
        assert packing is not None
        return _end_to_end(chosen, query, key, value, causal, packing, window)
    key, value = (_repeated(each, query.shape[1], dim=1) for each in (key, value))
    one = partial(_windowed, _reference if chosen == "reference" else _sdpa, window)
    if packing is None:
        return one(query, key, value, mask, causal)
    return _length_by_length(one, query, key, value, causal, packing)


def _check(query: Queries, key: Keys, mask: Mask | None, causal: bool, packing: Packing | None) -> None:
    """Refuse what the implementations would read in different ways, or not at all."""
    if mask is not None and causal:
        raise ValueError("give either a mask or causal=True: a mask can hold the causal part itself")
    if mask is not None and packing is not None:
        raise ValueError("give either a mask or a packing: packed samples see all of themselves, or what is before")
    if causal and query.shape[2] != key.shape[2]:
        raise ValueError(
            f"causal attention of {query.shape[2]} queries to {key.shape[2]} keys can be aligned at either end; "
            "give a mask"
        )
    if query.shape[1] % key.shape[1]:
        raise ValueError(f"{query.shape[1]} heads cannot share {key.shape[1]} key heads evenly")
    if packing is not None and not tuple(packing.positions.shape) == (query.shape[0], query.shape[2]) == (
        key.shape[0],
        key.shape[2],
    ):
        raise ValueError(
            f"the packing is of {tuple(packing.positions.shape)} tokens, queries are {query.shape[0]} x "
            f"{query.shape[2]} and keys {key.shape[0]} x {key.shape[2]}"
        )


def _cannot(name: Implementation, query: Queries, mask: Mask | None, packing: Packing | None) -> str | None:
    """Return why an implementation cannot run here, None where it can."""
    if name not in ("flash", "varlen"):
        return None
    if name == "flash" and _flash() is None:
        return "needs the extra [gpu]"
    if name == "varlen" and packing is None:
        return "is for packed samples"
    if not _half_on_cuda(query):
        return "needs CUDA tensors in half precision"
    return None if mask is None else "takes no mask"


def _end_to_end(
    name: Implementation,
    query: Queries,
    key: Keys,
    value: Keys,
    causal: bool,
    packing: Packing,
    window: int | None,
) -> Queries:
    """Run a kernel that reads all rows laid end to end, shape (tokens of all, heads, head_dim)."""
    batch, heads, tokens, _ = query.shape
    flat = [each.transpose(1, 2).flatten(0, 1) for each in (query, key, value)]
    borders = (packing.starts, packing.starts, packing.longest, packing.longest)
    sides = (-1 if window is None else window - 1, 0 if causal else -1)
    if name == "flash":
        limits = {} if window is None else {"window_size": sides}
        found = torch.as_tensor(_flash().flash_attn_varlen_func(*flat, *borders, causal=causal, **limits))
    else:
        attend, settings = _varlen()
        if "enable_gqa" not in settings:
            flat[1:] = [_repeated(each, heads, dim=1) for each in flat[1:]]
        found = attend(*flat, *borders, window_size=sides, **settings)
    return torch.as_tensor(found.unflatten(0, (batch, tokens)).transpose(1, 2))


def _repeated(keys: Tensor, heads: int, dim: int) -> Tensor:
    """Return as many key heads as there are heads."""
    groups = heads // keys.shape[dim]
    return keys if groups == 1 else keys.repeat_interleave(groups, dim=dim)


def _length_by_length(
    one: Callable[..., Tensor],
    query: Queries,
    key: Keys,
    value: Keys,
    causal: bool,
    packing: Packing,
) -> Queries:
    """Attend within each sample alone; samples of equal length in one call, without padding or mask.

    A block mask over whole rows gives the same, but works on every pair of tokens; what the ways cost is in
    docs/decisions/0006-unpadded-text.md.
    """
    heads, head_dim = query.shape[1], query.shape[3]
    order, back, groups = packing.by_length
    sizes = [length * samples for length, samples in groups]
    parts = (each.transpose(1, 2).reshape(-1, heads, head_dim)[order].split(sizes) for each in (query, key, value))
    found = []
    for (length, samples), *part in zip(groups, *parts, strict=True):
        apart = (each.view(samples, length, heads, head_dim).transpose(1, 2) for each in part)
        found.append(one(*apart, None, causal).transpose(1, 2).reshape(-1, heads, head_dim))
    return torch.cat(found)[back].view(query.shape[0], -1, heads, head_dim).transpose(1, 2)


def band(queries: Int[Tensor, " queries"], keys: Int[Tensor, " keys"], window: int) -> Bool[Tensor, "queries keys"]:
    """Return who sees whom by place: each query the keys up to its own place, the `window` last of them."""
    behind = queries[:, None] - keys
    return (behind >= 0) & (behind < window)


def _windowed(
    one: Callable[..., Tensor],
    window: int | None,
    query: Queries,
    key: Keys,
    value: Keys,
    mask: Mask | None,
    causal: bool,
) -> Queries:
    """Run an implementation that knows no windows."""
    if window is not None and key.shape[2] > window:
        places = torch.arange(key.shape[2], device=key.device)
        mask, causal = band(places, places, window), False
    return one(query, key, value, mask, causal)


def _sdpa(query: Queries, key: Keys, value: Keys, mask: Mask | None, causal: bool) -> Queries:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)


def _reference(query: Queries, key: Keys, value: Keys, mask: Mask | None, causal: bool) -> Queries:
    """Return attention as the formula says it, for tests."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return torch.matmul(scores.softmax(dim=-1), value)
