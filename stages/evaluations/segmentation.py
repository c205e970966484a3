"""Semantic segmentation on an encoder (arXiv:2312.14238, section 4.2 and its appendix): linear, UperNet, fine-tuned.

- `linear`: the encoder is frozen, one affine map over one block.
- `head`: the encoder is frozen, UperNet over four blocks.
- `full`: the same, and the encoder learns too.
- `few_shot`: the encoder learns under a linear head over its last block, from a share of the training data.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from models.intern_vit import InternVisionModel
from models.segmentation_heads import LinearSegmenter, UperNet, taps
from stages.evaluations.base import Examples, Outcome, Subject
from stages.evaluations.encoders import MEASURED, RANDOM, RAW, device_of, random_vision, seeded
from stages.evaluations.probe_crops import training_of
from stages.evaluations.segment_crops import Mask, classes_of, read
from stages.evaluations.segment_measures import (
    Areas,
    areas,
    chosen_first,
    class_measures,
    measures_of,
    parts_by_name,
    pictured,
)
from stages.evaluations.segment_training import Plan, chosen_share, crops, train_segmenters
from stages.evaluations.segmenter import Segmenter, predict, raw_patches, seen_by
from stages.manifest import ManifestError
from stages.quantities import gigabytes

Mode = Literal["linear", "head", "full", "few_shot"]
ITERATIONS = 80_000
WARMUP, SHORTER_WARMUP = 1_500, 0.02
"""Iterations of 80,000, and the share of fewer: the released few-shot runs have 100 of 5,000, 800 of 40,000."""
LINEAR_BLOCK = 45 / 48
"""Of the depth: the linear head of the paper reads block 45 of 48."""
SHOWN = 6
LEARNING_BYTES = 16
"""Per number that learns: itself, its gradient and AdamW's two moments in single precision."""


class Settings(BaseModel):
    """How a segmenter is trained and applied; what is left out is the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "linear"
    crop_size: int = Field(
        default=504, ge=1, description="Side of crops and windows, and the short side of pictures."
    )
    stride: int | None = Field(
        default=None, ge=1, description="Between windows; 322 of 504, the same share of others."
    )
    batch_size: int = Field(default=16, ge=2)
    iterations: int | None = Field(
        default=None, ge=1, description="80,000; few_shot: as large a share as of the data."
    )
    warmup: int | None = Field(default=None, ge=0, description="Iterations; 1,500 of 80,000, a fiftieth of others.")
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

    @property
    def resolved_warmup(self) -> int:
        """Return in how many iterations the rate rises."""
        usual = WARMUP if self.resolved_iterations == ITERATIONS else round(self.resolved_iterations * SHORTER_WARMUP)
        return usual if self.warmup is None else self.warmup

    def plan(self) -> Plan:
        """Return how training goes."""
        iterations = self.resolved_iterations
        decay = 0.0 if self.mode == "linear" else 0.05
        return Plan(
            iterations=iterations,
            warmup=self.resolved_warmup,
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
            raise ManifestError(
                f"block {self.block} is not there: the encoder has {depth}; set block to that at most"
            )
        return [self.block or usual]


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory a GPU has left; None for a CPU, which can swap."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _learning(vision: InternVisionModel, settings: Settings) -> InternVisionModel:
    """Return a copy of an encoder that may learn: what others are measured on stays as it is.

    Raises:
        ManifestError: It would not fit.
    """
    device = vision.embeddings.class_embedding.device
    needed, free = sum(each.numel() for each in vision.parameters()) * LEARNING_BYTES, free_bytes(device)
    if free is not None and needed > free:
        raise ManifestError(
            f"to fine-tune this encoder takes {gigabytes(needed)} for weights, gradients and moments, and the GPU "
            f"has {gigabytes(free)} left; take a larger one, or mode `head`, which trains only the head"
        )
    with seeded(settings.seed):
        model = InternVisionModel(vision.config.model_copy(update={"drop_path_rate": settings.drop_path_rate}))
    model.load_state_dict(vision.state_dict())
    model.gradient_checkpointing = device.type == "cuda"
    return model.to(device)


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
        learning = _learning(vision, settings)
        return {MEASURED: Segmenter(seen_by(learning, blocks, False), head(config.hidden_size), learning)}
    found = {MEASURED: Segmenter(seen_by(vision, blocks, True), head(config.hidden_size))}
    if settings.baselines and settings.mode == "linear":
        patch = config.num_channels * config.patch_size**2
        found[RAW] = Segmenter(raw_patches(config.patch_size), head(patch))
        blank = random_vision(vision, settings.seed)
        found[RANDOM] = Segmenter(seen_by(blank, blocks, True), head(config.hidden_size))
    return found


def predictions(
    segmenters: Mapping[str, Segmenter], subject: Subject, examples: Examples, settings: Settings, classes: int
) -> tuple[dict[str, Areas], dict[int, Mask]]:
    """Apply segmenters to all pictures.

    Returns:
        Tables of pixels by segmenter, shape (pictures, classes, classes), and the subject's masks of the first few.
    """
    device = device_of(subject)
    tables: dict[str, list[Areas]] = {name: [] for name in segmenters}
    kept: dict[int, Mask] = {}
    shown = set(chosen_first(examples, SHOWN))
    for number in range(len(examples)):
        subject.progress(number, len(examples), "pictures")
        picture, mask = read(examples, number, classes)
        for name, each in segmenters.items():
            found = predict(each, picture, settings.crop_size, settings.resolved_stride, device)
            tables[name].append(areas(found, mask, classes))
            if name == MEASURED and number in shown:
                kept[number] = found
    subject.progress(len(examples), len(examples), "pictures")
    return {name: np.stack(each) for name, each in tables.items()}, kept


def _notes(settings: Settings, plan: Plan, pictures: int) -> list[str]:
    learned = "Head and encoder were trained" if settings.learns else "The head was trained"
    found = [
        f"{learned} on {pictures:,} pictures in {plan.iterations:,} iterations of "
        f"{min(plan.batch_size, pictures)} crops of {plan.crop_size} pixels. Pillow resizes, which smooths what it "
        "makes smaller; the released code uses OpenCV, which does not."
    ]
    if settings.mode == "linear" and settings.baselines:
        found.append(
            "The pixels of each patch and a random encoder of the same shape got the same head and training: what "
            "the encoder has above both was learned."
        )
    return found


def run(subject: Subject, examples: Examples, settings: Settings, benchmark: str) -> Outcome:
    """Train a segmenter on the benchmark's training split and measure it.

    Raises:
        ManifestError: There are no masks to learn from, they do not fit, or training diverged.
    """
    patch = subject.vision.config.patch_size
    if settings.crop_size % patch:
        near = max(patch, round(settings.crop_size / patch) * patch)
        raise ManifestError(f"crop_size {settings.crop_size} does not divide into patches of {patch}; take {near}")
    training = training_of(examples, benchmark)
    names = classes_of(examples, training, benchmark)
    plan, chosen = settings.plan(), chosen_share(training, settings.train_share)
    device = device_of(subject)
    made = segmenters(subject, settings, len(names))
    losses = train_segmenters(made, crops(training, chosen, plan, len(names)), plan, device, subject.progress)
    tables, predicted = predictions(made, subject, examples, settings, len(names))
    if not any(table.sum() for table in tables.values()):
        raise ManifestError(
            f"no pixel of {benchmark} has a class; look at the masks, and at what is left out of them"
        )
    measures = [row for name, table in tables.items() for row in measures_of(benchmark, name, table)]
    ours = tables[MEASURED]
    return Outcome(
        measures=[*measures, *class_measures(benchmark, names, ours)],
        scores=parts_by_name(names, ours),
        keys=[examples.key(number) for number in range(len(examples))],
        classes=names,
        confusion=ours.sum(axis=0),
        examples=pictured(examples, names, ours, predicted),
        notes=_notes(settings, plan, len(chosen)),
        facts={
            **settings.model_dump(),
            **asdict(plan),
            "stride": settings.resolved_stride,
            "blocks": settings.blocks(subject.vision.config.num_hidden_layers),
            "trained_on": len(chosen),
            "parameters_trained": made[MEASURED].parameters_trained,
            "last_loss": {name: each[-1] for name, each in losses.items()},
        },
    )
