"""The quick layers against PyTorch's own: the same numbers and gradients, at every kind of shape."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from models import layers
from models.layers import Linear, RMSNorm, linear


def official_rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    wide = hidden.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(hidden.dtype)


def close(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> bool:
    assert ours is not None and theirs is not None and ours.shape == theirs.shape
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


@pytest.fixture
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send small products the way of large ones."""
    monkeypatch.setattr(layers, "SMALL_PRODUCT", 1)


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 10), (2, 3, 10), (2, 2, 3, 10), (0, 10)])
def test_a_linear_layer_is_pytorchs(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    found = []
    base, above = torch.randn(shape), torch.randn(*shape[:-1], 7)
    weight, shift = torch.randn(7, 10), torch.randn(7) if bias else None
    for function in (linear, F.linear):
        given = [each.clone().requires_grad_() for each in (base, weight, shift) if each is not None]
        out = function(*given)
        out.backward(above)
        found.append([out, *(each.grad for each in given)])
    if base.numel():
        assert all(close(ours, theirs) for ours, theirs in zip(*found, strict=True))
    else:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


@pytest.mark.usefixtures("every_size")
def test_views_and_spread_gradients_are_read_rightly() -> None:
    torch.manual_seed(0)
    wide, weight = torch.randn(4, 5, 30), torch.randn(7, 10, requires_grad=True)
    for hidden in (wide.chunk(3, dim=-1)[1], wide[..., :10].transpose(0, 1), wide[::2, 1:, 3:13]):
        ours = linear(hidden, weight)
        assert close(ours, F.linear(hidden, weight))
        (found,) = torch.autograd.grad(ours.sum(), weight)  # a gradient of one number, spread without memory
        (wanted,) = torch.autograd.grad(F.linear(hidden, weight).sum(), weight)
        assert close(found, wanted)


@pytest.mark.usefixtures("every_size")
def test_frozen_weights_get_no_gradient_and_half_precision_stays_half() -> None:
    layer = Linear(10, 7)
    layer.weight.requires_grad_(False)
    hidden = torch.randn(3, 10, requires_grad=True)
    layer(hidden).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is not None
    assert close(hidden.grad, layer.weight.sum(0).expand(3, -1))
    half = layer.to(torch.bfloat16)
    assert half(hidden.bfloat16()).dtype == torch.bfloat16
    assert torch.equal(half(hidden.bfloat16()), F.linear(hidden.bfloat16(), half.weight, half.bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Linear(10, 7)(hidden).dtype == torch.bfloat16


def test_onednn_is_for_large_products_and_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    plain = layers._times_transposed
    monkeypatch.setattr(layers, "_times_transposed", lambda *given: taken.append(1) or plain(*given))
    large, small = torch.randn(256, 128), torch.randn(2, 128)
    layer = Linear(128, 128)
    with torch.backends.mkldnn.flags(enabled=False):
        off = layer(large)
    layer(small)
    assert not taken
    assert close(layer(large), off) and taken == [1]


@pytest.mark.usefixtures("every_size")
def test_the_flop_counter_sees_every_product() -> None:
    hidden, layer = torch.randn(2, 3, 10, requires_grad=True), Linear(10, 7)
    with FlopCounterMode(display=False) as counter:
        layer(hidden).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 6 * 10 * 7


def test_rms_norm_is_the_official_formula() -> None:
    torch.manual_seed(0)
    for shape in [(6, 10), (2, 3, 10), (2, 3, 4, 10)]:
        found = []
        base, above = 3 * torch.randn(shape), torch.randn(shape)
        norm = RMSNorm(10, 1e-6)
        with torch.no_grad():
            norm.weight.copy_(torch.randn(10))
        for ours in (True, False):
            hidden, norm.weight.grad = base.clone().requires_grad_(), None
            out = norm(hidden) if ours else official_rms_norm(hidden, norm.weight, 1e-6)
            out.backward(above)
            found.append([out, hidden.grad, norm.weight.grad])
        assert all(close(one, other) for one, other in zip(*found, strict=True))


def test_rms_norm_in_half_precision_rounds_before_it_scales() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(64, 1e-6).to(torch.bfloat16)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(64))
    hidden = torch.randn(50, 64, dtype=torch.bfloat16)
    assert torch.equal(norm(hidden), official_rms_norm(hidden, norm.weight, 1e-6))
    # Scaling in fp32 and rounding once, as a fused kernel does, gives other numbers: the test can tell.
    once = official_rms_norm(hidden.float(), norm.weight.float(), 1e-6).bfloat16()
    assert not torch.equal(norm(hidden), once)


def test_rms_norm_of_zeros_is_zero_and_its_gradient_finite() -> None:
    hidden = torch.zeros(2, 8, requires_grad=True)
    out = RMSNorm(8, 1e-6)(hidden)
    out.sum().backward()
    assert torch.equal(out, torch.zeros(2, 8))
    assert hidden.grad is not None and torch.isfinite(hidden.grad).all()
