"""Distil a small vision encoder from a large one: how InternViT-300M was made (arXiv:2410.16261, section 3.1).

The result is an encoder alone, `checkpoints/encoder`: the instruct stage takes it by that name, the contrastive stage
as a folder to start from.
"""

import json
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from models.config import INTERN_VIT_300M_448, VisionConfig
from models.distillation import DistillationObjective
from models.intern_vit import InternVisionModel
from stages.adapters import fetch_chat
from stages.batches import ShardedSamples, generator_of, open_samples
from stages.held_out import SHARE, Rows, Share, by_shard, check_road, divide
from stages.manifest import Manifest, ManifestError
from stages.noise import noise_of
from stages.pairs import Pictures, random_box
from stages.pretrained_vision import started
from stages.train_loop import train
from stages.training.order import Source
from stages.training.schedule import Schedule
from stages.training.task import Batch, Finished, SampleFacts, Task, parameter_groups
from stages.vision_tower import vision_tower
from stages.workspace import Output, Workspace

VERSION = 1
TINY = VisionConfig(
    image_size=48, patch_size=8, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=192,
    initializer_factor=1.0,
)  # fmt: skip


class Parameters(BaseModel):
    """Student, what is compared, and the schedule; the defaults suit checkpoints of the tiny recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: str = Field(default="shards/clean", description="Artifact whose pictures are shown.")
    teacher: str = Field(default="checkpoints/contrastive", description="Checkpoint whose encoder is copied.")
    student: VisionConfig = Field(default=TINY, description="Shape of the small encoder, pictures included.")
    start_vision: str | None = Field(
        default=None, description="A trained InternViT of the student's shape to start from: a folder or a .pth."
    )
    layers: int = Field(default=1, ge=1, description="So many last blocks are compared, last with last.")
    smallest_crop: float = Field(
        default=1.0, gt=0, le=1, description="Smallest share of a picture that a random crop shows; 1 shows all."
    )
    held_out_share: Share = SHARE
    held_out: int = Field(default=64, ge=1, description="Most samples kept aside that are measured on at the end.")
    schedule: Schedule = Schedule(global_batch_size=64, steps=300, learning_rate=2e-3, warmup_steps=30)


def published_parameters() -> Parameters:
    """Return InternViT-300M's shape and picture size, which are published; all other numbers here are ours."""
    return Parameters(
        student=INTERN_VIT_300M_448,
        layers=4,
        schedule=Schedule(
            global_batch_size=2048,
            steps=50_000,
            learning_rate=5e-4,
            warmup_steps=1000,
            final_ratio=0.0,
            beta2=0.999,
            weight_decay=0.05,
            precision="bf16",
        ),
    )


class PictureBatches:
    """Makes batches of pictures alone; what is drawn for a sample is a function of (seed, step, sample)."""

    def __init__(self, samples: ShardedSamples, rows: Rows, image_size: int, seed: int, smallest_crop: float) -> None:
        """Read nothing yet; `rows` are the samples that batches number from 0."""
        self.samples, self.rows, self.pictures = samples, rows, Pictures(samples, image_size)
        self.seed, self.smallest_crop = seed, smallest_crop

    def __call__(self, rows: Sequence[int], step: int) -> Batch:
        """Return `pixel_values` (rows, 3, side, side) and `noise` (rows,)."""
        found, boxes = self.rows[list(rows)].tolist(), None
        if self.smallest_crop < 1:
            boxes = [random_box(generator_of(self.seed, "crop", step, row), self.smallest_crop) for row in found]
        noise = torch.cat([noise_of(self.seed, step, row) for row in found])
        return {"pixel_values": self.pictures.batch(found, boxes), "noise": noise}

    def facts(self, row: int) -> SampleFacts:
        """Return what a sample is known by."""
        return SampleFacts.of(self.samples, int(self.rows[row]))


class DistillTask:
    """A student, its frozen teacher, and pictures."""

    def __init__(self, parameters: Parameters, teacher: InternVisionModel, samples: ShardedSamples) -> None:
        """Start the student from nothing or a trained one.

        Raises:
            ManifestError: The two do not see the same places, or nothing is left to train on.
        """
        rows = divide(samples.fingerprints, parameters.held_out_share, parameters.held_out, samples.name)
        self.samples = [Source(samples.name, by_shard(rows.taught, samples.sizes))]
        self.held_out = rows.aside.tolist()
        student = parameters.student
        if parameters.start_vision is None:
            self.student = InternVisionModel(student)
        else:
            self.student = started(parameters.start_vision, student)
        try:
            self.module: nn.Module = DistillationObjective(teacher, self.student, parameters.layers)
        except ValueError as error:
            raise ManifestError(f"distill: {error}; change distill.student or distill.layers") from error
        seed, crop = parameters.schedule.seed, parameters.smallest_crop
        self.batches = PictureBatches(samples, rows.taught, student.image_size, seed, crop)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the student and the maps to the teacher's width."""
        return parameter_groups(self.module.named_parameters(), weight_decay)

    def finish(self) -> Finished:
        """Measure on the samples kept aside, and return the student alone."""
        device = next(self.student.parameters()).device
        cosine = 0.0
        for start in range(0, len(self.held_out), 64):
            rows = self.held_out[start : start + 64]
            pixels = self.batches.pictures.batch(rows).to(device)
            cosine += float(self.module({"pixel_values": pixels})["cosine"]) * len(rows)
        files = {
            "config.json": json.dumps({"vision": self.student.config.model_dump(mode="json")}, indent=2).encode(),
        }
        measured = {"held_out": len(self.held_out), "held_out_cosine": round(cosine / len(self.held_out), 4)}
        return Finished(self.student.state_dict(), files, measured)


def _teacher(parameters: Parameters, here: Workspace) -> InternVisionModel:
    """Return the encoder that is copied; it drops no block."""
    folder = fetch_chat(here.store, here.input(parameters.teacher), here.scratch / "teacher")
    return vision_tower(folder, "the teacher")


def build(parameters: Parameters, here: Workspace) -> Task:
    """Return what is trained, and on what."""
    check_road(parameters.held_out_share, here.inputs.values())
    samples = open_samples(here, here.input(parameters.shards))
    return DistillTask(parameters, _teacher(parameters, here), samples)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Distil the encoder."""
    return train(build, parameters, output, here)
