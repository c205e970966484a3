"""The ways of a model between layouts: configuration and weights, our own names always in the middle.

Ours are the official names, with a language model of LLaMA's layout.
"""

from typing import Any

import torch

from models.chat import InternVLChat
from models.config import ChatConfig, InternVLConfig, VisionConfig
from models.decoders import DECODERS
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.native_config import native_chat_config, native_decoder, native_vision_config
from models.official_config import TALK, official_chat_config, official_config, official_vision_config
from models.pth_names import HEAD, encoder_from_pth, encoder_to_pth, generative, towers_from_pth, towers_to_pth
from models.recognise import Model, Whose
from models.renaming import Renamed, State, differences, passing, refuse, same, shapes
from models.weights import (
    chat_from_native,
    chat_from_official,
    chat_to_native,
    chat_to_official,
    named_as_today,
    vision_from_native,
    vision_to_native,
)


def refuse_layout(layout: Whose, config: Model) -> None:
    """Refuse a layout that a model has not.

    Raises:
        ValueError: Nobody can read it there.
    """
    if layout == "native" and isinstance(config, InternVLConfig):
        raise ValueError("transformers has no class for InternVL-C and -G; official, ours and pth are possible")
    if layout != "ours" and isinstance(config, ChatConfig) and config.connector != "unshuffle_mlp":
        raise ValueError(
            f"neither the official code nor transformers has a chat model with the connector {config.connector}; "
            "only ours is possible"
        )
    if layout == "pth" and isinstance(config, ChatConfig):
        raise ValueError("no chat model was ever released as .pth; official, native and ours are possible")


def config_in(layout: Whose, config: Model, decoder: str) -> dict[str, Any]:
    """Return a model's `config.json` in a layout; what that class does not know is kept beside what it does.

    Args:
        layout: Whose; a `.pth` has none, and gets ours.
        config: Of the model.
        decoder: Class of the language model in whose layout the official weights are.

    Raises:
        ValueError: That class cannot compute the same, or there is none.
    """
    refuse_layout(layout, config)
    if layout in ("ours", "pth"):
        fields = config.model_dump(mode="json")
        return {"vision": fields} if isinstance(config, VisionConfig) else fields
    if isinstance(config, InternVLConfig):
        # The official field for it, max_txt_len, is stored and never used there.
        return {**official_config(config), "context_length": config.context_length}
    if layout == "official":
        return (
            official_chat_config(config, decoder)
            if isinstance(config, ChatConfig)
            else official_vision_config(config)
        )
    if isinstance(config, VisionConfig):
        return _native_vision(config)
    native = native_chat_config(
        config.vision,
        config.text,
        image_token_id=config.image_context_token_id,
        downsample_ratio=config.downsample_ratio,
        ps_version=config.ps_version,
        select_layer=config.select_layer,
        eos_token_id=config.eos_token_id,
        bos_token_id=config.text.bos_token_id,
    )
    talk = {name: getattr(config, name) for name in (*TALK, "max_dynamic_patch")}
    kept = {"dynamic_image_size": config.max_dynamic_patch > 1, "language_layout": DECODERS[decoder].layout}
    return {**native, "vision_config": _native_vision(config.vision), **talk, **kept}


def _native_vision(config: VisionConfig) -> dict[str, Any]:
    return {**native_vision_config(config), "drop_path_rate": config.drop_path_rate}


def from_layout(layout: Whose, weights: State, config: Model, decoder: str) -> State:
    """Return weights of a layout under our names.

    Raises:
        WeightsError: Names are not that layout's; all of them are named.
    """
    refuse_layout(layout, config)
    if layout == "pth":
        return encoder_from_pth(weights) if isinstance(config, VisionConfig) else towers_from_pth(weights)
    if layout == "native":
        return vision_from_native(weights) if isinstance(config, VisionConfig) else chat_from_native(weights)
    if layout == "official" and isinstance(config, ChatConfig):
        return chat_from_official(weights, decoder, config.text)
    return Renamed(weights, {name: same(name) for name in weights if not passing(name)})


def to_layout(layout: Whose, weights: State, config: Model, decoder: str) -> State:
    """Return weights under our names in a layout; undoes `from_layout`.

    Raises:
        WeightsError: Names are not ours; all of them are named.
    """
    refuse_layout(layout, config)
    if layout == "pth":
        return encoder_to_pth(weights) if isinstance(config, VisionConfig) else towers_to_pth(weights)
    if layout == "native":
        if isinstance(config, ChatConfig):
            return chat_to_native(weights, native_decoder(config.text))
        return vision_to_native(weights)
    if layout == "official" and isinstance(config, ChatConfig):
        return chat_to_official(weights, decoder, config.text)
    return weights


def name_of(config: Model, names: State) -> str:
    """Return what a model is called."""
    if isinstance(config, VisionConfig):
        return "InternViT"
    if isinstance(config, ChatConfig):
        return "a chat model"
    return "InternVL-G" if generative(names) else "InternVL-C"


def refuse_misfits(layout: Whose, weights: State, config: Model, decoder: str) -> None:
    """Refuse weights that are not all of a model's and no others, before any is read.

    Args:
        layout: In which the weights are.
        weights: Without numbers, such as those on the meta device.
        config: Of the model.
        decoder: Class of the language model in whose layout the official weights are.

    Raises:
        WeightsError: All that are missing, unknown, of another shape, or no real numbers are named, as they are
            called in their files.
    """
    given = named_as_today(weights) if layout == "native" else weights
    with torch.device("meta"):
        if isinstance(config, VisionConfig):
            model: torch.nn.Module = InternVisionModel(config)
        elif isinstance(config, ChatConfig):
            model = InternVLChat(config)
        else:
            model = InternVL(config, generative=generative(given))
    expected = shapes(to_layout(layout, model.state_dict(), config, decoder))
    # The first release's encoder carries the head that pools its tokens.
    more = ("clip_projector.",) if layout == "pth" and isinstance(config, VisionConfig) else ()
    found = {name: shape for name, shape in shapes(given).items() if not passing(name) and not name.startswith(more)}
    optional = (HEAD,) if isinstance(config, InternVLConfig) and not generative(given) else ()
    unreal = [
        f"weight {name!r} holds {str(given[name].dtype).removeprefix('torch.')}, not real numbers"
        for name in found
        if not given[name].is_floating_point()
    ]
    refuse(differences(expected, found, optional) + unreal, name_of(config, given))
