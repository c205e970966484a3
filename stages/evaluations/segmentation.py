"""Semantic segmentation on an encoder (arXiv:2312.14238, section 4.2 and its appendix): linear, UperNet, fine-tuned.

- `linear`: the encoder is frozen, one affine map over one block.
- `head`: the encoder is frozen, UperNet over four blocks.
- `full`: the same, and the encoder learns too.
- `few_shot`: the encoder learns under a linear head over its last block, from a share of the training data.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from models.config import VisionConfig
from models.intern_vit import InternVisionModel
from models.segmentation import LinearSegmenter, UperNet, taps
from stages.evaluation_metrics import Floats, Measure, ratio_measure
from stages.evaluation_report import Example
from stages.evaluations.base import Examples, Outcome, Subject
from stages.evaluations.encoders import MEASURED, RANDOM, RAW, random_vision, seeded
from stages.evaluations.probe_crops import training_of
from stages.evaluations.segment_crops import IGNORED, Mask, read
from stages.evaluations.segment_training import Plan, chosen_share, crops, train_segmenters
from stages.evaluations.segmenter import Segmenter, predict, raw_patches, seen_by
from stages.manifest import ManifestError

Mode = Literal["linear", "head", "full", "few_shot"]
ITERATIONS, WARMUP = 80_000, 1_500
LINEAR_BLOCK = 45 / 48
"""Of the depth: the linear head of the paper reads block 45 of 48."""
SHOWN = 6


class Settings(BaseModel):
    """How a segmenter is trained and applied; what is left out is the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "linear"
    crop_size: int = Field(default=504, ge=1, description="Side of crops and windows, and the short side of pictures.")
    stride: int | None = Field(default=None, ge=1, description="Between windows; 322 of 504, the same share of others.")
    batch_size: int = Field(default=16, ge=2)
    iterations: int | None = Field(default=None, ge=1, description="80,000; few_shot: as large a share as of the data.")
    warmup: int | None = Field(default=None, ge=0, description="Iterations; 1,500 of 80,000, the same share of others.")
    learning_rate: float = Field(default=4e-5, gt=0)
    power: float = Field(default=1.0, gt=0, description="Of the polynomial by which the rate falls to 0.")
    weight_decay: float | None = Field(default=None, ge=0, description="0 for the linear head, else 0.05.")
    drop_path_rate: float = Field(default=0.4, ge=0, lt=1, description="Where the encoder learns.")
    layer_decay: float = Field(default=0.95, gt=0, le=1, description="Where the encoder learns.")
    channels: int = Field(default=1536, ge=1, description="Of UperNet.")
    block: int | None = Field(
        default=None, ge=1, description="Which block a linear head reads; 45 of 48 where it is frozen, else the last."
    )
    train_share: float = Field(default=1.0, gt=0, le=1, description="Of training pictures, by a hash of their keys.")
    baselines: bool = Field(
        default=True, description="With `linear`: the same head on raw pixels and on a random encoder too."
    )
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.stride is not None and self.stride > self.crop_size:
            raise ValueError(f"stride {self.stride} leaves pixels out between windows of {self.crop_size}")
        if self.warmup is not None and self.warmup >= self.resolved_iterations:
            raise ValueError(f"warmup {self.warmup} must be shorter than {self.resolved_iterations} iterations")
        return self

    @property
    def learns(self) -> bool:
        """Return whether the encoder is trained too."""
        return self.mode in ("full", "few_shot")

    @property
    def resolved_iterations(self) -> int:
        """Return how many iterations there are."""
        share = self.train_share if self.mode == "few_shot" else 1.0
        return self.iterations or max(1, round(ITERATIONS * share))

    @property
    def resolved_stride(self) -> int:
        """Return the step from window to window."""
        return self.stride or max(1, round(self.crop_size * 322 / 504))

    def plan(self) -> Plan:
        """Return how training goes."""
        iterations = self.resolved_iterations
        decay = 0.0 if self.mode == "linear" else 0.05
        return Plan(
            iterations=iterations,
            warmup=round(iterations * WARMUP / ITERATIONS) if self.warmup is None else self.warmup,
            learning_rate=self.learning_rate,
            power=self.power,
            weight_decay=decay if self.weight_decay is None else self.weight_decay,
            layer_decay=self.layer_decay if self.learns else 1.0,
            crop_size=self.crop_size,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    def blocks(self, depth: int) -> list[int]:
        """Return which blocks of an encoder are read, counted from 1.

        Raises:
            ManifestError: The encoder has no such block.
        """
        if self.mode in ("head", "full"):
            return taps(depth)
        usual = max(1, round(depth * LINEAR_BLOCK)) if self.mode == "linear" else depth
        if (self.block or 1) > depth:
            raise ManifestError(f"block {self.block} is not there: the encoder has {depth}; set block to that at most")
        return [self.block or usual]


def _learning(vision: InternVisionModel, drop_path_rate: float) -> InternVisionModel:
    """Return a copy of an encoder that may learn: what others are measured on stays as it is."""
    model = InternVisionModel(vision.config.model_copy(update={"drop_path_rate": drop_path_rate}))
    model.load_state_dict(copy.deepcopy(vision.state_dict()))
    return model.to(vision.embeddings.class_embedding.device)


def segmenters(subject: Subject, settings: Settings, classes: int) -> dict[str, Segmenter]:
    """Return what is trained, by name: the subject's, and for the linear head its two rivals."""
    vision, device = subject.vision, device_of(subject)
    config = vision.config
    blocks = settings.blocks(config.num_hidden_layers)

    def head(width: int) -> nn.Module:
        with seeded(settings.seed):
            linear = len(blocks) == 1
            made = LinearSegmenter(width, classes) if linear else UperNet(width, classes, settings.channels)
        return made.to(device)

    if settings.learns:
        learning = _learning(vision, settings.drop_path_rate)
        return {MEASURED: Segmenter(seen_by(learning, blocks, False), head(config.hidden_size), learning)}
    found = {MEASURED: Segmenter(seen_by(vision, blocks, True), head(config.hidden_size))}
    if settings.baselines and settings.mode == "linear":
        patch = config.num_channels * config.patch_size**2
        found[RAW] = Segmenter(raw_patches(config.patch_size), head(patch))
        blank = random_vision(vision, settings.seed)
        found[RANDOM] = Segmenter(seen_by(blank, blocks, True), head(config.hidden_size))
    return found


def areas(predicted: Mask, mask: Mask, classes: int) -> npt.NDArray[np.int64]:
    """Return how many pixels of each class (row) were taken for each (column), shape (classes, classes)."""
    counted = mask != IGNORED
    both = mask[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(both, minlength=classes**2).reshape(classes, classes)


def _parts(tables: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return intersections and unions of each picture and class, both (pictures, classes), of (pictures, c, c)."""
    same = np.einsum("ncc->nc", tables)
    return same.astype(np.float64), (tables.sum(axis=1) + tables.sum(axis=2) - same).astype(np.float64)


def _measures(benchmark: str, name: str, tables: npt.NDArray[np.int64]) -> list[Measure]:
    """Return mIoU and pixel accuracy of one segmenter beside those of the commonest class everywhere."""
    prefix = "" if name == MEASURED else f"{name}_"
    same, union = _parts(tables)
    pixels = tables.sum(axis=(1, 2)).astype(np.float64)
    share = float(tables.sum(axis=(0, 2)).max() / pixels.sum())
    shown = int((tables.sum(axis=(0, 2)) > 0).sum())
    return [
        ratio_measure(benchmark, "en", f"{prefix}miou", same, union, chance=share / shown),
        ratio_measure(benchmark, "en", f"{prefix}pixel_accuracy", same.sum(axis=1), pixels, chance=share),
    ]


def painted(picture: Image.Image, mask: Mask) -> Image.Image:
    """Return a picture with each class in a colour of its own over it; grey where nothing counts."""
    numbers = np.arange(256)
    # The golden angle sets the hues of neighbouring numbers far apart; every third is darker.
    hue, value = (numbers * 0.618034) % 1 * 255, 255 - numbers % 3 * 70
    palette = np.stack([hue, np.full(256, 200), value], axis=1).astype(np.uint8)
    colours = np.asarray(Image.fromarray(palette[None], "HSV").convert("RGB"))[0].copy()
    colours[IGNORED] = 128
    return Image.blend(picture, Image.fromarray(colours[mask]), 0.6)


def _beside(picture: Image.Image, *masks: Mask) -> Image.Image:
    """Return a picture, and beside it the same under each of the masks."""
    found = Image.new("RGB", (picture.width * (1 + len(masks)), picture.height))
    for place, each in enumerate([picture, *(painted(picture, mask) for mask in masks)]):
        found.paste(each, (place * picture.width, 0))
    return found


def _examples(
    examples: Examples, tables: npt.NDArray[np.int64], predicted: Mapping[int, Mask], shown: Sequence[int]
) -> list[Example]:
    found = []
    for number in shown:
        picture, mask = read(examples, number)
        right = np.trace(tables[number]) / max(1, tables[number].sum())
        classes = ", ".join(examples.classes[int(each)] for each in np.unique(mask[mask != IGNORED]))
        lines = [
            ("left to right", "picture, truth, prediction"),
            ("pixels right", f"{100 * right:.1f} %"),
            ("shows", classes),
            ("example", examples.key(number)),
        ]
        found.append(Example("Segmentation", _beside(picture, mask, predicted[number]), lines))
    return found
