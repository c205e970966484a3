"""Low-rank adapters (LoRA, arXiv:2106.09685) in the towers of a chat model, by peft's layers.

The layers are those that the official fine-tuning adapts: all products of a block of the encoder, and all of a layer
of the language model (which has LLaMA's layout here: where a published one fuses queries, keys and values, each of
them has a pair of matrices of its own). Alpha is twice the rank, as there.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from models.renaming import Origin, Renamed, State, joined, refuse
from models.stochastic_depth import uniform

VISION_TARGETS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
LANGUAGE_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FIRST, SECOND = ".lora_A.weight", ".lora_B.weight"
"""Ends of the names of a pair of matrices, in the order in which they are applied."""
_ADAPTER, _BASE = "default", ".base_layer"
_PLACE, _NUMBER = 0x2545F4914F6CDD1D, 0x369DEA0F31A53F85
"""Odd numbers that spread places and features over 64 bits."""


@dataclass
class TokenNoise:
    """Random bits of the tokens that a tower sees now, int64 of shape (rows, tokens); its adapters read them here."""

    bits: Int64[Tensor, "rows tokens"] | None = None

    def draw(self, rows: Int64[Tensor, "rows tokens"], places: Int64[Tensor, "#rows tokens"]) -> None:
        """Make bits of those of samples and of each token's place in its sample."""
        self.bits = rows + (places + 1) * _PLACE


class SeededDropout(nn.Module):
    """Dropout (arXiv:1207.0580) that is a hash of a token's bits: the same for every placement and in a replay."""

    def __init__(self, rate: float, noise: TokenNoise, stream: int) -> None:
        """Drop a share `rate` of the numbers; layers differ by `stream`."""
        super().__init__()
        self.rate, self.noise, self.stream = rate, noise, stream

    def forward(self, hidden: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "rows tokens width"]:
        """Return the same shape; nothing is dropped outside training.

        Raises:
            ValueError: No bits were given.
        """
        if not self.training:
            return hidden
        if self.noise.bits is None:
            raise ValueError("dropout of adapters needs the batch's `sample_noise`, one int64 per sample; give it")
        numbers = torch.arange(hidden.shape[-1], device=hidden.device) * _NUMBER
        bits = self.noise.bits[..., None] + numbers
        kept = (uniform(bits.flatten(), self.stream) >= self.rate).view(bits.shape)
        return hidden * kept.to(hidden.dtype) / (1 - self.rate)


def add_lora(layers: nn.ModuleList, targets: tuple[str, ...], rank: int, rate: float, noise: TokenNoise) -> None:
    """Put adapters into a tower's layers, in place; they alone learn there.

    Args:
        layers: Of the encoder or the language model.
        targets: Ends of the names of the products that are adapted.
        rank: Of each pair of matrices, drawn from torch's random state; the second one is zero.
        rate: Of dropout before them.
        noise: What dropout is drawn from.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds, and most runs adapt nothing

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets))
    inject_adapter_in_model(config, layers, _ADAPTER)
    if rate:
        for stream, (_, layer) in enumerate(_adapted(layers)):
            layer.lora_dropout[_ADAPTER] = SeededDropout(rate, noise, stream)


def _adapted(module: nn.Module) -> list[tuple[str, Any]]:
    """Return the layers with adapters by name."""
    return [(name, each) for name, each in module.named_modules() if hasattr(each, "lora_A")]


def adapters(module: nn.Module) -> dict[str, Tensor]:
    """Return what learns, adapters as `<layer>.lora_A.weight`: all that a base of the same shape lacks."""
    return {
        name.replace(f".{_ADAPTER}.", "."): value.detach()
        for name, value in module.named_parameters()
        if value.requires_grad
    }


@torch.no_grad()
def merged(module: nn.Module) -> dict[str, Tensor]:
    """Return all weights under the names that they have without adapters, these added to what they adapt."""
    deltas = {f"{name}.weight": layer.get_delta_weight(_ADAPTER) for name, layer in _adapted(module)}
    found = {}
    for full, value in module.state_dict().items():
        if ".lora_" not in full:
            name = full.replace(_BASE, "")
            found[name] = (value + deltas[name].to(value.dtype) if name in deltas else value).detach()
    return found


def added(base: State, learned: State) -> Renamed:
    """Return what `merged` does, in fp32, each weight read and made only when it is asked for.

    Args:
        base: Weights without adapters.
        learned: What `adapters` returned.

    Raises:
        WeightsError: Something was learned that the base has no place for.
    """

    def place(name: str) -> str:
        return name.replace(FIRST, ".weight").replace(SECOND, ".weight")

    refuse([f"weight {name!r} is not known" for name in learned if place(name) not in base], "the adapters")
    pairs = {place(name): (name, name.replace(FIRST, SECOND)) for name in learned if name.endswith(FIRST)}
    origins = {
        name: Origin((name, *pairs[name]), _with_adapter) if name in pairs else Origin((name,), Tensor.float)
        for name in base
    }
    return Renamed(joined(base, learned), origins)


def _with_adapter(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    # Alpha over the rank, which is 2.
    return weight.float() + second.float() @ first.float() * 2
