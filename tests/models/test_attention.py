"""Every attention against the plain formula; it stands in for GPU kernels, and checks what they are handed."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models import attention as module
from models.attention import Implementation, attention, band, using
from models.packing import Packing

INDEX = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2], [4, 4, 4, 4, 4, 4, 4, 9, 9]])


def inputs(key_heads: int = 4, tokens: int = 9) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, heads, tokens, 8, requires_grad=True) for heads in (4, key_heads, key_heads))


def block_mask(index: torch.Tensor, causal: bool) -> torch.Tensor:
    same = index[:, None, :, None] == index[:, None, None, :]
    return same & torch.ones_like(same[:1, :1]).tril() if causal else same


def with_gradients(out: torch.Tensor, given: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [out, *torch.autograd.grad(out, given, torch.randn(out.shape))]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.allclose(a, b, atol=2e-6) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
def test_sdpa_is_the_reference(causal: bool, key_heads: int) -> None:
    given = inputs(key_heads)
    fast, plain = (attention(*given, causal=causal, implementation=each) for each in ("sdpa", "reference"))
    assert equal(with_gradients(fast, given), with_gradients(plain, given))
    by_hand = [each.repeat_interleave(4 // each.shape[1], dim=1) for each in given]
    assert torch.allclose(fast, attention(*by_hand, causal=causal), atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("implementation", ["auto", "sdpa", "reference"])
def test_packed_samples_see_what_a_block_mask_lets_them_see(implementation: Implementation, causal: bool) -> None:
    given = inputs(2)
    packed = attention(*given, causal=causal, packing=Packing.of(INDEX), implementation=implementation)
    masked = attention(*given, mask=block_mask(INDEX, causal), implementation="reference")
    assert equal(with_gradients(packed, given), with_gradients(masked, given))
    assert not torch.allclose(packed, attention(*given, causal=causal), atol=1e-2)


@pytest.mark.parametrize("window", [1, 3, 8, 9, 20])
@pytest.mark.parametrize("implementation", ["auto", "sdpa", "reference"])
def test_a_window_hides_what_lies_too_far_back(implementation: Implementation, window: int) -> None:
    given, packing = inputs(2), Packing.of(INDEX)
    inside = torch.ones(9, 9, dtype=torch.bool).tril().triu(1 - window)
    assert inside.sum(-1).max() == min(window, 9) and torch.equal(
        band(torch.arange(9), torch.arange(9), window), inside
    )
    for packed, mask in ((None, inside), (packing, block_mask(INDEX, True) & inside)):
        found = attention(*given, causal=True, window=window, packing=packed, implementation=implementation)
        wanted = attention(*given, mask=mask, implementation="reference")
        assert equal(with_gradients(found, given), with_gradients(wanted, given))


def rows_of_reference(*given: torch.Tensor, causal: bool, window_size: tuple[int, int] = (-1, -1)) -> torch.Tensor:
    """Stand for flash_attn_func: shape (batch, tokens, heads, head_dim), and how many keys on each side are seen."""
    assert window_size == (-1, -1) or (causal and window_size[1] == 0)
    query, key, value = (each.transpose(1, 2) for each in given)
    seen = None
    if causal:
        behind = torch.arange(query.shape[2])[:, None] - torch.arange(key.shape[2])
        seen = (behind >= 0) & (behind <= (window_size[0] if window_size[0] >= 0 else query.shape[2]))
    return attention(query, key, value, mask=seen, implementation="reference").transpose(1, 2)


def spans_of_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    key_starts: torch.Tensor,
    longest: int,
    longest_key: int,
    causal: bool,
    window_size: tuple[int, int] = (-1, -1),
) -> torch.Tensor:
    """Stand for variable-length kernels: shape (tokens of all, heads, head_dim) and borders in int32."""
    assert starts.dtype == key_starts.dtype == torch.int32 and torch.equal(starts, key_starts)
    assert longest == longest_key == int(starts.diff().max()) and int(starts[-1]) == len(query)
    spans = [slice(a, b) for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
    words: dict[str, Any] = {"causal": causal, "window_size": window_size}
    return torch.cat([rows_of_reference(query[s][None], key[s][None], value[s][None], **words)[0] for s in spans])


def varlen_of_reference(*given: Any, window_size: tuple[int, int], enable_gqa: bool, num_splits: int) -> Any:
    assert window_size[1] in (0, -1) and enable_gqa and num_splits == 1
    left = (window_size[0], 0) if window_size[0] >= 0 else (-1, -1)
    return spans_of_reference(*given, causal=window_size[1] == 0, window_size=left)


SETTINGS = {"enable_gqa": True, "num_splits": 1}


def old_varlen_of_reference(query: torch.Tensor, key: torch.Tensor, *given: Any, **words: Any) -> Any:
    """Stand for the kernel of PyTorch before 2.12, whose heads share no keys."""
    assert key.shape[1] == query.shape[1]
    return varlen_of_reference(query, key, *given, **words, **SETTINGS)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    package = SimpleNamespace(flash_attn_func=rows_of_reference, flash_attn_varlen_func=spans_of_reference)
    monkeypatch.setattr(module, "_flash", lambda: package)
    monkeypatch.setattr(module, "_varlen", lambda: (varlen_of_reference, SETTINGS))
    monkeypatch.setattr(module, "_half_on_cuda", lambda tensor: True)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("how", [{"causal": False}, {"causal": True}, {"causal": True, "window": 3}])
@pytest.mark.parametrize("implementation", ["flash", "varlen", "auto"])
def test_gpu_kernels_are_handed_the_right_rows(implementation: Implementation, how: dict[str, Any]) -> None:
    given = inputs(2)
    packing = Packing.of(INDEX)
    packed = attention(*given, **how, packing=packing, implementation=implementation)
    assert torch.allclose(packed, attention(*given, **how, packing=packing, implementation="sdpa"), atol=2e-6)
    if implementation != "varlen":
        fixed = attention(*given, **how, implementation=implementation)
        assert torch.allclose(fixed, attention(*given, **how, implementation="sdpa"), atol=2e-6)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_an_older_kernel_is_handed_a_key_for_each_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_varlen", lambda: (old_varlen_of_reference, {}))
    given, packing = inputs(2), Packing.of(INDEX)
    packed = attention(*given, causal=True, packing=packing, implementation="varlen")
    assert torch.allclose(packed, attention(*given, causal=True, packing=packing, implementation="sdpa"), atol=2e-6)


def test_auto_takes_the_first_that_can_run(monkeypatch: pytest.MonkeyPatch, as_on_a_gpu: None) -> None:
    taken: list[str] = []

    def note(name: str, function: Any) -> Any:
        def run(*given: Any, **words: Any) -> Any:
            taken.append(name)
            return function(*given, **words)

        return run

    package = SimpleNamespace(
        flash_attn_func=note("flash", rows_of_reference),
        flash_attn_varlen_func=note("packed flash", spans_of_reference),
    )
    monkeypatch.setattr(module, "_flash", lambda: package)
    monkeypatch.setattr(module, "_varlen", lambda: (note("varlen", varlen_of_reference), SETTINGS))
    monkeypatch.setattr(module, "_sdpa", note("sdpa", module._sdpa))
    given, packing = inputs(), Packing.of(INDEX)
    attention(*given)
    attention(*given, packing=packing)
    attention(*given, mask=block_mask(INDEX, True))
    monkeypatch.setattr(module, "_flash", lambda: None)
    attention(*given)
    attention(*given, packing=packing)
    assert taken == ["flash", "packed flash", "sdpa", "sdpa", "varlen"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="these kernels exist on CUDA alone")
@pytest.mark.parametrize("how", [{"causal": False}, {"causal": True}, {"causal": True, "window": 3}])
def test_gpu_kernels_are_the_reference(how: dict[str, Any]) -> None:
    given = [torch.randn(2, heads, 9, 64, device="cuda") for heads in (4, 2, 2)]
    half = [each.bfloat16() for each in given]
    names: list[Implementation] = ["varlen"] if module._flash() is None else ["varlen", "flash"]
    packing = Packing.of(INDEX.cuda())
    for name in names:
        found = attention(*half, **how, packing=packing, implementation=name)
        wanted = attention(*given, **how, packing=packing, implementation="reference")
        assert torch.allclose(found.float(), wanted, atol=3e-2)


def test_a_default_holds_within_its_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given, taken = inputs(), []
    plain = module._reference
    monkeypatch.setattr(module, "_reference", lambda *words: taken.append(1) or plain(*words))
    with using("reference"):
        attention(*given)
        with using("sdpa"):
            attention(*given)
        attention(*given, implementation="sdpa")
    attention(*given)
    assert len(taken) == 1
    with pytest.raises(ValueError, match="flash attention"), using("flash"):
        attention(*given)
    attention(*given)


def test_misuse_is_refused() -> None:
    query, key, value = inputs()
    packing, seen = Packing.of(INDEX), torch.ones(9, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="a mask or a packing"):
        attention(query, key, value, mask=seen, packing=packing)
    with pytest.raises(ValueError, match="either a mask or causal"):
        attention(query, key, value, mask=seen, causal=True)
    with pytest.raises(ValueError, match="aligned at either end"):
        attention(query[:, :, :3], key, value, causal=True)
    with pytest.raises(ValueError, match="4 heads cannot share 3"):
        attention(query, key[:, :3], value[:, :3])
    with pytest.raises(ValueError, match=r"a window is for causal attention.*`band`"):
        attention(query, key, value, mask=seen, window=3)
    with pytest.raises(ValueError, match="the packing is of"):
        attention(query[:, :, :5], key[:, :, :5], value[:, :, :5], packing=packing)
    with pytest.raises(ValueError, match="is for packed samples"):
        attention(query, key, value, implementation="varlen")
    with pytest.raises(ValueError, match="CUDA tensors in half precision"):
        attention(query, key, value, packing=packing, implementation="varlen")


@pytest.mark.usefixtures("as_on_a_gpu")
def test_kernels_without_masks_say_so() -> None:
    with pytest.raises(ValueError, match="flash attention takes no mask"):
        attention(*inputs(), mask=torch.ones(9, 9, dtype=torch.bool), implementation="flash")
