"""A subject and examples in memory, for tests of protocols: a tiny InternVL, and pictures of plain colours."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from training_data import tiny_tokenizer

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from stages.evaluation_metrics import Floats
from stages.evaluation_retrieval import Judge
from stages.evaluations.base import Examples, Question
from stages.manifest import ManifestError
from stages.pairs import Texts

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 30), "blue": (20, 40, 230), "white": (250, 250, 250)}


def plain(colour: str, size: tuple[int, int] = (24, 16), noise: int | None = None) -> Image.Image:
    """Return a picture of one colour; with `noise`, a seed, no two of them are the same."""
    pixels = np.broadcast_to(np.array(COLOURS[colour], np.int64), (size[1], size[0], 3))
    if noise is not None:
        pixels = pixels + np.random.default_rng(noise).integers(-20, 21, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def torn(number: int) -> Image.Image:
    """Return a picture in which every pixel is another, of one of three shapes."""
    width, height = ((40, 24), (20, 33), (16, 16))[number % 3]
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@dataclass
class ListedExamples:
    """Examples that lie in lists; what a test does not give is empty."""

    shown: Sequence[Sequence[Image.Image]]
    """Per example its pictures, or all frames of its video."""
    classes: Sequence[str] = ()
    labels: Sequence[int] = ()
    said: Sequence[Sequence[str]] = ()
    masks: Sequence[npt.NDArray[np.uint8]] = ()
    asked: Sequence[Question] = ()
    names: Sequence[str] = ()
    """Keys; numbers where left out."""

    @property
    def digest(self) -> str:
        truths = repr((self.classes, self.labels, self.said, self.asked, self.names))
        found = hashlib.sha256(truths.encode())
        for picture in (picture for pictures in self.shown for picture in pictures):
            found.update(picture.tobytes())
        for mask in self.masks:
            found.update(mask.tobytes())
        return found.hexdigest()

    def __len__(self) -> int:
        return len(self.shown)

    def key(self, number: int) -> str:
        return self.names[number] if self.names else f"{number:04d}"

    def pictures(self, number: int, frames: int = 1) -> list[Image.Image]:
        """Return the pictures of an example; of a longer video the middles of `frames` equal segments."""
        pictures = self.shown[number]
        count = min(frames, len(pictures))
        return [pictures[int((place + 0.5) * len(pictures) / count)] for place in range(count)]

    def label(self, number: int) -> int:
        return self.labels[number]

    def captions(self, number: int) -> Sequence[str]:
        return self.said[number] if self.said else ()

    def mask(self, number: int) -> npt.NDArray[np.uint8]:
        return self.masks[number]

    def question(self, number: int) -> Question:
        return self.asked[number]


def coloured(per_class: int, classes: Sequence[str] = tuple(COLOURS)) -> ListedExamples:
    """Return pictures of plain colours with labels and two captions each."""
    labels = [number % len(classes) for number in range(per_class * len(classes))]
    return ListedExamples(
        shown=[[plain(classes[label], noise=number)] for number, label in enumerate(labels)],
        classes=classes,
        labels=labels,
        said=[
            [f"a {classes[label]} picture {number}", f"{number}: {classes[label]}"]
            for number, label in enumerate(labels)
        ],
    )


@cache
def tokenizer() -> Tokenizer:
    """Return the tokenizer of all tiny models."""
    return tiny_tokenizer()


def tiny_towers(*, generative: bool = False, image_size: int = 16, seed: int = 0) -> InternVL:
    """Return a randomly initialised InternVL-C, or -G where `generative`."""
    config = InternVLConfig(
        vision=VisionConfig(
            image_size=image_size,
            patch_size=8,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        ),
        text=TextConfig(
            vocab_size=tokenizer().get_vocab_size(),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        ),
        embed_dim=8,
        attn_pool_num_heads=2,
        num_query_token=3,
        cross_attention_frequency=1,
    )
    torch.manual_seed(seed)
    return InternVL(config, generative=generative)


def tiny_judge(*, generative: bool = False, batch_size: int = 16, seed: int = 0) -> Judge:
    """Return a judge with a randomly initialised model."""
    model = tiny_towers(generative=generative, seed=seed)
    return Judge(model, Texts(tokenizer(), model.config.context_length), batch_size)


class ColourJudge(Judge):
    """A judge that knows colours and nothing else: of a picture it sees the nearest, in a text it looks for its name.

    A text without the name of a colour, and one with several, points between them.
    """

    def __init__(self, *, batch_size: int = 16) -> None:
        judge = tiny_judge(batch_size=batch_size)
        super().__init__(judge.model, judge.texts, batch_size)

    def see(self, pictures: Sequence[Image.Image], *, crop: bool = False) -> Tensor:
        means = np.array([np.asarray(picture.convert("RGB")).mean(axis=(0, 1)) for picture in pictures])
        return torch.from_numpy(means)

    def picture_vectors(self, vision: Tensor, *, queries: bool = False, unit: bool = True) -> Floats:
        apart = np.abs(vision.numpy()[:, None] - np.array(list(COLOURS.values()))[None]).sum(axis=2)
        return np.eye(len(COLOURS))[apart.argmin(axis=1)]

    def text_vectors(self, captions: Sequence[str]) -> Floats:
        named = np.array([[float(colour in text) for colour in COLOURS] for text in captions]) + 1e-3
        return np.asarray(named / np.linalg.norm(named, axis=1, keepdims=True))

    passing_vectors = text_vectors


class Published:
    """A judge's model as CLIP_benchmark takes models: pixels and tokens in, vectors of any length out."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Return ids of shape (texts, longest), padded with 0."""
        return self.judge.texts.summaries(texts)[0]

    def encode_image(self, pixels: Tensor) -> Tensor:
        return 3 * self.judge.model.encode_image(pixels)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return 2 * self.judge.model.encode_text(tokens, (tokens > 0).long())


@dataclass
class FakeSubject:
    """A subject whose cache is a dictionary; `made` counts what was computed, `said` keeps its progress."""

    judge: Judge
    name: str = "tiny"
    kept: dict[tuple[str, str], Floats] = field(default_factory=dict)
    made: int = 0
    said: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def towers(self) -> InternVL:
        return self.judge.model

    @property
    def vision(self) -> InternVisionModel:
        return self.judge.model.vision_model

    @property
    def session(self) -> NoReturn:
        raise ManifestError(f"{self.name} is no chat model")

    def remembered(self, what: str, examples: Examples, make: Callable[[], Floats]) -> Floats:
        key = (what, examples.digest)
        if key not in self.kept:
            self.kept[key] = make()
            self.made += 1
        return self.kept[key]

    def written(self, what: str, examples: Examples, make: Callable[[], list[str | None]]) -> list[str | None]:
        return make()

    def progress(self, done: float, total: float, unit: str) -> None:
        self.said.append((done, total, unit))


@dataclass
class TaughtExamples(ListedExamples):
    """Examples that bring others along on which a head is trained."""

    learned_from: ListedExamples = field(default_factory=lambda: ListedExamples([]))

    def training(self) -> ListedExamples:
        return self.learned_from


def taught(measured: ListedExamples, learned_from: ListedExamples) -> TaughtExamples:
    """Return examples to measure on, beside those to learn from."""
    return TaughtExamples(**vars(measured), learned_from=learned_from)
