"""Weight names of the first release: `intern_vit_6b_224px.pth` and `internvl_c_13b_224px.pth`, pure PyTorch.

InternVL-G was never published so. What it has more than InternVL-C keeps its official name here, so that code
that reads `internvl_c_13b_224px.pth`, which passes over names it does not know, finds InternVL-C in it.
"""

from collections.abc import Iterable

from models.renaming import Origin, Renamed, State, passing, same

_EMBEDDINGS = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
    "embeddings.patch_embedding.bias": "patch_embed.proj.bias",
}
HEAD = "qllama.lm_head.weight"
"""Of the text tower; InternVL-C never uses it, and the first release's file leaves it out."""
_KEPT = ("clip_projector.", "text_projection", "logit_scale", "query_tokens", "clip_projector2.", "itm_head.", HEAD)
_GENERATIVE = ("query_tokens", "clip_projector2.", "itm_head.")


def generative(names: Iterable[str]) -> bool:
    """Say whether weights are InternVL-G's, one part of what it has more than InternVL-C being enough."""
    return any(name.startswith(_GENERATIVE) or ("layers." in name and ".cross_attn." in name) for name in names)


def _vision_to_pth(names: Iterable[str], source: str = "") -> dict[str, Origin]:
    """Return what the first release's vision weights are made of, for official names below a prefix."""
    found: dict[str, Origin] = {}
    for full in names:
        name = full.removeprefix(source)
        if name in _EMBEDDINGS:
            found[_EMBEDDINGS[name]] = same(full)
        elif name.startswith("encoder.layers."):
            scale = ".gamma" if name.endswith((".ls1", ".ls2")) else ""
            found["blocks." + name.removeprefix("encoder.layers.") + scale] = same(full)
    return found


def _vision_from_pth(names: Iterable[str], target: str = "") -> dict[str, Origin]:
    """Return what the official vision weights are made of, for the first release's names."""
    embeddings = {theirs: name for name, theirs in _EMBEDDINGS.items()}
    found: dict[str, Origin] = {}
    for name in names:
        if name in embeddings:
            found[target + embeddings[name]] = same(name)
        elif name.startswith("blocks."):
            found[f"{target}encoder.layers." + name.removeprefix("blocks.").removesuffix(".gamma")] = same(name)
    return found


def _towers_from_pth(names: Iterable[str]) -> dict[str, Origin]:
    """Return what InternVL's weights are made of, for the first release's names; unknown names are left out."""
    given = list(names)
    found = _vision_from_pth(given, "vision_model.")
    for name in given:
        if name.startswith(_KEPT):
            found[name] = same(name)
        elif name.startswith("transformer.") and not passing(name):
            found["qllama.model." + name.removeprefix("transformer.")] = same(name)
    return found


def readable(weights: State) -> Renamed:
    """Return what is known of a `.pth`'s weights, under the official names: InternVL's if it has a text tower."""
    if any(name.startswith("transformer.") for name in weights):
        return Renamed(weights, _towers_from_pth(weights))
    return Renamed(weights, _vision_from_pth(weights))


def towers_from_pth(weights: State) -> Renamed:
    """Return the weights of `internvl_c_13b_224px.pth` under the names of InternVL-C, or -G.

    InternVL-C's file holds no head for the text tower: `qllama.lm_head.weight` is not among them.

    Raises:
        WeightsError: Names are not that file's; all of them are named.
    """
    return Renamed.whole(weights, _towers_from_pth(weights), "the first release's InternVL-C")


def towers_to_pth(weights: State) -> Renamed:
    """Return the weights of InternVL-C, or -G, under the names of `internvl_c_13b_224px.pth`.

    The text tower's head stays behind where it is InternVL-C's.

    Raises:
        WeightsError: Names are of neither; all of them are named.
    """
    left = () if generative(weights) else (HEAD,)
    kept = Renamed(weights, {name: same(name) for name in weights if name not in left})
    found = _vision_to_pth([name for name in kept if name.startswith("vision_model.")], "vision_model.")
    for name in kept:
        if name.startswith(_KEPT):
            found[name] = same(name)
        elif name.startswith("qllama.model.") and not passing(name):
            found["transformer." + name.removeprefix("qllama.model.")] = same(name)
    return Renamed.whole(kept, found, "InternVL-C")


def encoder_from_pth(weights: State) -> Renamed:
    """Return the weights of `intern_vit_6b_224px.pth` under InternViT's names; its pooling head stays behind.

    Raises:
        WeightsError: Names are not that file's; all of them are named.
    """
    kept = Renamed(weights, {name: same(name) for name in weights if not name.startswith("clip_projector.")})
    return Renamed.whole(kept, _vision_from_pth(kept), "the first release's InternViT")


def encoder_to_pth(weights: State) -> Renamed:
    """Return InternViT's weights under the names of `intern_vit_6b_224px.pth`.

    Raises:
        WeightsError: Names are not InternViT's; all of them are named.
    """
    return Renamed.whole(weights, _vision_to_pth(weights), "InternViT")
