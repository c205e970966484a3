"""A row of instruction data as a chat model is shown it: what is said, and how many tiles each picture has."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from models.config import ChatConfig
from models.preprocess import tile_count, tiles_for_each
from stages.chat_template import VIDEO, place_video

Size = tuple[int, int]


class Said(NamedTuple):
    """A conversation before it is turned into tokens."""

    system_message: str
    questions: list[str]
    answers: list[str]
    tiles: list[int]
    """Of each picture, in the order of their `<image>`."""
    most_tiles: int
    """That one picture may have, for those who cut it."""


def sizes_of(row: Mapping[str, Any]) -> list[Size]:
    """Return (width, height) of each picture of a row, without reading one."""
    width, height = row.get("width"), row.get("height")
    if width is None or height is None:
        return []
    if isinstance(width, list):
        return list(zip(width, height, strict=True))
    return [(width, height)]


def most_tiles(row: Mapping[str, Any], pictures: int, config: ChatConfig) -> int:
    """Return the most tiles of each picture of a row: of a video's frames one, of several together as of one.

    A source may have its own limit in place of the model's (internvl-chat's `max_dynamic_patch` by data set).
    """
    if row.get("video"):
        return 1
    most = int(row.get("max_dynamic_patch") or config.max_dynamic_patch)
    return tiles_for_each(most, pictures) if pictures > 1 else most


def tiles_in(size: Size, most: int, config: ChatConfig) -> int:
    """Return how many tiles a picture of this size is shown in."""
    if most == 1:
        return 1
    least = min(config.min_dynamic_patch, most)
    return tile_count(*size, config.vision.image_size, least, most, config.use_thumbnail)


def said(row: Mapping[str, Any], config: ChatConfig) -> Said:
    """Return what a row says to a model; a video's `<video>` becomes a numbered line for each frame.

    A system message of the row's own takes the place of the model's, an empty one too, as in the official code.
    """
    turns: Sequence[Mapping[str, str]] = row["conversations"]
    texts = [turn["value"] for turn in turns]
    questions, answers = texts[::2], texts[1::2]
    sizes = sizes_of(row)
    if row.get("video"):
        questions = [place_video(text, len(sizes)) if VIDEO in text else text for text in questions]
    most = most_tiles(row, len(sizes), config)
    tiles = [tiles_in(size, most, config) for size in sizes]
    return Said(row.get("system", config.system_message), questions, answers, tiles, most)
