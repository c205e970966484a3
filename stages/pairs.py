"""Pictures and captions as the vision-language stages read them: one preprocessing, one way to write tokens."""

import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from models.config import TextConfig
from models.losses import IGNORE
from models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from stages.batches import ShardedSamples, open_samples
from stages.manifest import Manifest, ManifestError
from stages.prompts import SUMMARIZE, caption_prompt
from stages.recent import Recent
from stages.tokenizer import BOS_ID, EOS_ID, load_tokenizer
from stages.workspace import Workspace

PAD_ID = 0
"""As in the official text tower; the attention mask says what is padding, so no token is lost to it."""
DECODED_BYTES = 512 << 20
"""Decoded pictures kept in memory per process; what does not fit is decoded each time."""

DECODE_MARGIN = 2
"""JPEGs are decoded at 1/2, 1/4 or 1/8 where that leaves twice the wanted side, so that the resampling filter still
sees two pixels for each it makes. On web photos the result is then at least 36.7 dB from a full decode; saving a
picture anew at quality 95 moves it by 38 dB in the median, and margin 1 by as much as 28 dB (docs/decisions/0007)."""

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]


def resize(picture: Image.Image, image_size: int, box: Box | None = None) -> Pixels:
    """Return RGB pixels of shape (image_size, image_size, 3), squashed, of the whole picture or of a box of it."""
    small = picture.convert("RGB").resize((image_size, image_size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(small, dtype=np.uint8)


def normalise(pixels: Sequence[Pixels]) -> Tensor:
    """Return pictures as the vision tower takes them, float32 of shape (batch, 3, height, width)."""
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(255)
    return (stacked - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


class Pictures:
    """The pictures of shards by sample number, decoded once where memory allows."""

    def __init__(self, samples: ShardedSamples, image_size: int, decoded_bytes: int = DECODED_BYTES) -> None:
        """Keep up to `decoded_bytes` of resized pictures."""
        self.samples, self.image_size = samples, image_size
        self._room = decoded_bytes // (3 * image_size * image_size)
        self._decoded: dict[int, Pixels] = {}
        self._ids: dict[int, int] = {}

    def read(self, row: int, box: Box | None = None) -> Pixels:
        """Return pixels of shape (image_size, image_size, 3); `box` as shares of width and height.

        Raises:
            ManifestError: The picture cannot be decoded.
        """
        if box is None and row in self._decoded:
            return self._decoded[row]
        try:
            with Image.open(io.BytesIO(self.samples.read(row, "jpg"))) as picture:
                found = resize(picture, self.image_size, scaled_decode(picture, self.image_size, box))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ManifestError(
                f"the picture of sample {self.samples.keys[row]} cannot be decoded ({error}); make the shards again"
            ) from error
        if box is None and len(self._decoded) < self._room:
            self._decoded[row] = found
        return found

    def ids(self, rows: Sequence[int]) -> Tensor:
        """Return one number per picture, int64 of shape (rows,), equal where the bytes are equal."""
        return torch.tensor([self._id(row) for row in rows])

    def _id(self, row: int) -> int:
        if row in self._ids:
            return self._ids[row]
        found = number_of(self.samples.read(row, "jpg"))
        if row in self._decoded:
            self._ids[row] = found
        return found

    def batch(self, rows: Sequence[int], boxes: Sequence[Box] | None = None) -> Tensor:
        """Return normalised pictures, (rows, 3, image_size, image_size); `boxes` say what of each is shown."""
        shown: Sequence[Box | None] = boxes or [None] * len(rows)
        return normalise([self.read(row, box) for row, box in zip(rows, shown, strict=True)])


def scaled_decode(picture: Image.Image, image_size: int, box: Box | None) -> Box | None:
    """Let a JPEG be decoded at the smallest scale that still has `DECODE_MARGIN` times the pixels per side.

    Returns:
        The box in pixels of the picture as it will be decoded.
    """
    share = 1.0 if box is None else min(box[2] - box[0], box[3] - box[1])
    side = math.ceil(DECODE_MARGIN * image_size / share)
    picture.draft(None, (side, side))
    if box is None:
        return None
    width, height = picture.size
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


class Captions:
    """The captions of shards by sample number; those read last are kept."""

    def __init__(self, samples: ShardedSamples) -> None:
        """Read nothing yet."""
        self.samples = samples
        self._recent: Recent[int, str] = Recent()

    def one(self, row: int) -> str:
        """Return the caption of a sample."""
        return self._recent.get(row, lambda row: self.samples.read(row, "txt").decode())

    def read(self, rows: Sequence[int]) -> list[str]:
        """Return captions by sample number."""
        return [self.one(row) for row in rows]

    def languages(self, rows: Sequence[int]) -> list[str | None]:
        """Return the languages that captions were found to be in, None where that is unknown."""
        found = (self.samples.facts(row).get("language") for row in rows)
        return [str(language) if language else None for language in found]


def random_box(rng: np.random.Generator, smallest: float) -> Box:
    """Return a random part of a picture (left, top, right, bottom as shares), of at least this share of its area.

    The sides differ by up to 4:3, as in the random resized crop of the paper's training.
    """
    area, ratio = rng.uniform(smallest, 1.0), np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
    width, height = min(1.0, (area * ratio) ** 0.5), min(1.0, (area / ratio) ** 0.5)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return float(left), float(top), float(left + width), float(top + height)


class Texts:
    """Turns texts into padded tokens with a checkpoint's tokenizer."""

    def __init__(
        self, tokenizer: Tokenizer, context_length: int, bos_token_id: int = BOS_ID, eos_token_id: int = EOS_ID
    ) -> None:
        """Cut at `context_length` tokens, both ends included."""
        self.tokenizer, self.context_length = tokenizer, context_length
        self.bos_token_id, self.eos_token_id = bos_token_id, eos_token_id

    @classmethod
    def of(cls, folder: Path, context_length: int) -> "Texts":
        """Read the tokenizer of a fetched checkpoint, and which tokens its language model begins and ends with."""
        text = TextConfig.model_validate(json.loads((folder / "config.json").read_bytes())["text"])
        return cls(load_tokenizer(folder / "tokenizer.json"), context_length, text.bos_token_id, text.eos_token_id)

    def ids(self, *pieces: str, end: bool = True) -> list[int]:
        """Return tokens begun and, if `end`, ended; a text that is too long loses its end but not the end token.

        Pieces follow each other without a space and never share a token.
        """
        found = [self.bos_token_id]
        for piece in pieces:
            found += self.tokenizer.encode(piece, add_special_tokens=False).ids
        if not end:
            return found[: self.context_length]
        return [*found[: self.context_length - 1], self.eos_token_id]

    def summaries(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (input ids, attention mask) of captions whose vectors are asked for, shape (batch, tokens)."""
        return padded([self.ids(SUMMARIZE, caption) for caption in captions])

    def plain(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (input ids, attention mask) of captions without a prefix, shape (batch, tokens)."""
        return padded([self.ids(caption) for caption in captions])

    def prompted(self, captions: Sequence[str], languages: Sequence[str | None]) -> tuple[Tensor, Tensor, Tensor]:
        """Return (input ids, attention mask, labels) of captions to be written after their prompts.

        The prompt itself is never a label; the official loader counts its last token by an off-by-one.
        """
        rows, starts = [], []
        for caption, language in zip(captions, languages, strict=True):
            prompt = caption_prompt(language)
            rows.append(self.ids(prompt, caption))
            starts.append(len(self.ids(prompt, end=False)))
        ids, mask = padded(rows)
        labels = ids.masked_fill(mask == 0, IGNORE)
        for label, start in zip(labels, starts, strict=True):
            label[:start] = IGNORE
        return ids, mask, labels

    def prompt(self, language: str | None) -> list[int]:
        """Return the tokens after which a caption is written."""
        return self.ids(caption_prompt(language), end=False)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return (ids, mask), both (rows, longest row), padded on the right."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), PAD_ID)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return ids, mask


def caption_ids(captions: Sequence[str]) -> Tensor:
    """Return one number per caption, equal for equal captions."""
    return torch.tensor([number_of(caption.encode()) for caption in captions])


def number_of(data: bytes) -> int:
    """Return 56 bits of the sha256 of some bytes: equal for equal bytes, and for others hardly ever."""
    return int.from_bytes(hashlib.sha256(data).digest()[:7], "big")


def shards_of(here: Workspace, prefix: str) -> tuple[Manifest, ShardedSamples]:
    """Return the one shards artifact that a stage was given, and its samples on the local disk."""
    shards = here.input(prefix)
    return shards, open_samples(here, shards)
