"""Every protocol by name: the module that holds it, what it is called, and which checkpoints it can measure."""

import importlib
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ValidationError

from stages.evaluations.base import ProtocolFunction
from stages.evaluations.registry import ProtocolName, Row
from stages.evaluations.subject import Kind
from stages.manifest import ManifestError


class Known(NamedTuple):
    """What is known of a protocol before its module is imported."""

    module: str
    title: str
    """Of its group on the page."""
    kinds: tuple[Kind, ...]
    """Checkpoints that it can measure."""
    needs: str
    """The same in words."""


_TOWERS: tuple[Kind, ...] = ("contrastive", "generative")
_SEEING: tuple[Kind, ...] = ("contrastive", "generative", "instruct", "vision")

PROTOCOLS: dict[ProtocolName, Known] = {
    "zero_shot_classification": Known(
        "stages.evaluations.zero_shot_classification", "Zero-shot image classification", _TOWERS, "InternVL-C or -G"
    ),
    "linear_probe": Known("stages.evaluations.linear_probe", "Linear probe", _SEEING, "any vision tower"),
    "segmentation": Known("stages.evaluations.segmentation", "Semantic segmentation", _SEEING, "any vision tower"),
    "retrieval": Known("stages.evaluations.retrieval", "Zero-shot image-text retrieval", _TOWERS, "InternVL-C or -G"),
    "video_classification": Known(
        "stages.evaluations.video_classification", "Zero-shot video classification", _TOWERS, "InternVL-C or -G"
    ),
    "video_retrieval": Known(
        "stages.evaluations.video_retrieval", "Zero-shot video-text retrieval", _TOWERS, "InternVL-C or -G"
    ),
    "captioning": Known(
        "stages.evaluations.captioning", "Captioning", ("generative", "instruct"), "InternVL-G or a chat model"
    ),
    "dialogue": Known("stages.evaluations.dialogue", "Dialogue", ("instruct",), "a chat model"),
}
"""In the order of the page, which is the paper's; modules are imported when they are needed."""


def settings_of(known: Known, given: dict[str, Any]) -> BaseModel:
    """Return a protocol's settings, whole: what is not given is the paper's.

    Raises:
        ManifestError: A setting is unknown or out of its range.
    """
    model: type[BaseModel] = importlib.import_module(known.module).Settings
    try:
        return model.model_validate(given)
    except ValidationError as error:
        each = error.errors()[0]
        name = ".".join(map(str, (known.module.rpartition(".")[2], *each["loc"])))
        raise ManifestError(
            f"{name}: {each['msg'].removeprefix('Value error, ')}; its settings are {', '.join(model.model_fields)}"
        ) from error


def function_of(known: Known) -> ProtocolFunction:
    """Return what measures."""
    return cast(ProtocolFunction, importlib.import_module(known.module).run)


def with_queries(row: Row) -> bool:
    """Return whether a row is about InternVL-G's way of seeing, which InternVL-C has not."""
    return bool(row.settings.get("queries"))


def measurable(row: Row, kind: Kind) -> str:
    """Return why a row cannot be measured on this kind of checkpoint; nothing where it can."""
    known = PROTOCOLS[row.protocol]
    if kind not in known.kinds:
        return f"needs {known.needs}"
    if with_queries(row) and kind != "generative":
        return "needs InternVL-G"
    return ""
