"""Phi-3's weights under LLaMA's names and back: it fuses projections that LLaMA keeps apart."""

from torch import Tensor

from models.renaming import Origin, Renamed, State, passing, rows, same, stacked

_FUSED = {
    "self_attn.qkv_proj.weight": tuple(f"self_attn.{each}_proj.weight" for each in "qkv"),
    "mlp.gate_up_proj.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
}


def _split(name: str) -> tuple[str, str]:
    """Return (`model.layers.N.`, the rest); the first is empty outside layers."""
    head, layers, rest = name.partition("layers.")
    number, _, part = rest.partition(".")
    return (f"{head}{layers}{number}.", part) if layers else ("", name)


def phi3_name(name: str) -> str:
    """Return under which name Phi-3 holds a weight of LLaMA's; a piece of a fused one lies in the whole."""
    layer, rest = _split(name)
    return layer + next((whole for whole, parts in _FUSED.items() if rest in parts), rest)


def llama_from_phi3(weights: State) -> Renamed:
    """Return the weights of a Phi3ForCausalLM as those of a LlamaForCausalLM.

    Args:
        weights: Names without a prefix, such as `model.layers.0.self_attn.qkv_proj.weight`.
    """

    def part(number: int, value: Tensor) -> Tensor:
        rows, width = value.shape  # queries are as wide as the model; keys and values share the rest
        keys = (rows - width) // 2
        pieces: tuple[Tensor, ...] = value.split([rows - 2 * keys, keys, keys])  # type: ignore[no-untyped-call]
        return pieces[number].clone()

    found: dict[str, Origin] = {}
    for name in [each for each in weights if not passing(each)]:
        layer, rest = _split(name)
        if rest == "self_attn.qkv_proj.weight":
            for number, each in enumerate(_FUSED[rest]):
                found[layer + each] = Origin((name,), lambda value, n=number: part(n, value))
        elif rest in _FUSED:
            for number, each in enumerate(_FUSED[rest]):
                found[layer + each] = rows(name, number, 2)
        else:
            found[name] = same(name)
    return Renamed.whole(weights, found, "Phi-3")


def phi3_from_llama(weights: State) -> Renamed:
    """Return the weights of a LlamaForCausalLM as those of a Phi3ForCausalLM; undoes `llama_from_phi3`."""
    found: dict[str, Origin] = {}
    for name in [each for each in weights if not passing(each)]:
        theirs = phi3_name(name)
        layer, fused = _split(theirs)
        if theirs == name:
            found[name] = same(name)
        elif theirs not in found:
            found[theirs] = stacked([layer + each for each in _FUSED[fused]])
    return Renamed.whole(weights, found, "a LLaMA")
