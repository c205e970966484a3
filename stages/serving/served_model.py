"""What has to be known about an exported chat model before it is asked: its tiles, its room, its control tokens."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open
from tokenizers import Tokenizer

from models.preprocess import best_grid, tile, tile_count, tiles_for_each
from stages.chat_template import VIDEO, control_token_in, without_control_tokens
from stages.manifest import ManifestError
from stages.tokenizer import steering_tokens

TURN_TOKENS = 12
"""Room for what a template puts around one turn; the longest of ours takes ten."""
NEEDED = ("config.json", "generation_config.json", "tokenizer.json", "processor_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class ServedModel:
    """A chat model in transformers' native layout, in a folder.

    Attributes:
        name: What clients call it.
        folder: Its files.
        facts: Markdown: what it was made from; empty where nobody knows.
        drawn_world: Whether it was taught on our drawn scenes, so that examples of these make sense.

    Raises:
        ManifestError: The folder holds no such model.
    """

    name: str
    folder: Path
    facts: str = ""
    drawn_world: bool = False
    _files: dict[str, dict[str, Any]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in NEEDED if not (self.folder / name).is_file()]
        for name in ("config.json", "generation_config.json", "processor_config.json"):
            if name not in missing:
                self._files[name] = json.loads((self.folder / name).read_text())
        config = self._files.get("config.json", {})
        if missing or config.get("model_type") != "internvl" or "text_config" not in config:
            fact = f"it has no {', '.join(missing)}" if missing else "its config.json is not transformers' InternVL"
            raise ManifestError(
                f"{self.folder} is no exported chat model: {fact}; name an artifact checkpoints/instruct@VERSION or "
                "exports/instruct@VERSION"
            )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """Tokens of this model that steer it, beside those that steer every one."""
        return steering_tokens(self.tokenizer)

    @property
    def generation(self) -> dict[str, Any]:
        """`generation_config.json`: what ends an answer."""
        return self._files["generation_config.json"]

    @property
    def context(self) -> int:
        """Most tokens of a conversation with its answer."""
        return int(self._files["config.json"]["text_config"]["max_position_embeddings"])

    @property
    def image_size(self) -> int:
        """Side of a tile in pixels."""
        return int(self._image["size"]["height"])

    @property
    def tokens_per_tile(self) -> int:
        """Context tokens of a tile."""
        return int(self._files["processor_config.json"]["image_seq_length"])

    @property
    def max_tiles(self) -> int:
        """Most tiles of a picture, the thumbnail not counted."""
        return int(self._image["max_patches"])

    @property
    def parameters(self) -> int:
        """Numbers in the weights, read off the files' heads."""
        total = 0
        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(path, "pt") as weights:
                total += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
        return total

    def tiles(self, image: Image.Image, pictures: int = 1) -> list[Image.Image]:
        """Return a picture as the model sees it: tiles row by row, and after several the whole one, small.

        Args:
            image: The picture.
            pictures: How many the conversation has; they share the tiles of one, as in training.
        """
        return tile(image, self.image_size, *self._tiles_of(pictures))

    def grid(self, image: Image.Image, pictures: int = 1) -> tuple[int, int]:
        """Return how many columns and rows of tiles a picture, one of several, is cut into."""
        return best_grid(*image.size, self.image_size, *self._tiles_of(pictures))

    def resized(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Return a conversation's pictures so that several share the tiles of one in an engine that gives each all.

        One that has the size of its smaller grid already keeps that grid. Its thumbnail is then made of that size.
        """
        if len(images) < 2:
            return list(images)
        grids = [self.grid(image, len(images)) for image in images]
        return [
            image.resize((columns * self.image_size, rows * self.image_size), Image.Resampling.BICUBIC)
            for image, (columns, rows) in zip(images, grids, strict=True)
        ]

    def _tiles_of(self, pictures: int) -> tuple[int, int]:
        """Return the fewest and the most tiles of each of so many pictures."""
        least = int(self._image["min_patches"])
        return least, max(least, tiles_for_each(self.max_tiles, max(1, pictures)))

    def prompt_tokens(self, texts: Sequence[str], sizes: Sequence[tuple[int, int]]) -> int:
        """Return about how many tokens a conversation has, rather too many than too few.

        Args:
            texts: Of its turns.
            sizes: Width and height of its pictures.
        """
        least, most = self._tiles_of(len(sizes))
        tiles = sum(tile_count(width, height, self.image_size, least, most) for width, height in sizes)
        words = sum(len(each.ids) for each in self.tokenizer.encode_batch(list(texts), add_special_tokens=False))
        return words + TURN_TOKENS * (len(texts) + 2) + tiles * self.tokens_per_tile + 3 * len(sizes)

    def control_token_in(self, text: str) -> str | None:
        """Return a token in a text that would end a turn or stand for something shown, None where there is none."""
        return control_token_in(text, (*self.special_tokens, VIDEO))

    def without_control_tokens(self, text: str) -> str:
        """Return a text without these."""
        return without_control_tokens(text, (*self.special_tokens, VIDEO))

    @property
    def _image(self) -> dict[str, Any]:
        found: dict[str, Any] = self._files["processor_config.json"]["image_processor"]
        return found
