"""What rows cost that train a head, told before anything runs: counted on models that take no memory."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from infra.storage import Store
from models.config import VisionConfig
from models.cost import vision_macs
from models.intern_vit import InternVisionModel
from stages.checkpoints import file_named
from stages.evaluations import linear_probe, segmentation
from stages.evaluations.choice import Choice
from stages.evaluations.protocols import PROTOCOLS, settings_of
from stages.evaluations.segment_settings import Settings as SegmentSettings
from stages.evaluations.segmenter import Segmenter
from stages.manifest import Manifest
from stages.workspace import read_file

WINDOWS = 2
"""That cover a picture of 4 by 3 at the paper's stride."""
TIMED_FLOPS = 2e9
"""Work by which this machine is timed: some tenths of a second on one core."""
LARGEST_TIMED = 50_000_000
"""Parameters of an encoder that is built to be timed."""


class Sizes(NamedTuple):
    """How much data a row is about."""

    examples: int
    training: int = 0
    classes: int = 2


class Cost(NamedTuple):
    """What a row costs."""

    pictures: int
    """Pictures, crops and windows that pass through an encoder."""
    flops: float


@dataclass(frozen=True)
class _Shape:
    """A subject of which only the shape of the encoder is known."""

    vision: InternVisionModel = field(repr=False)


def vision_config(store: Store, checkpoint: Manifest) -> VisionConfig | None:
    """Return the shape of a checkpoint's vision tower; None where it does not tell."""
    file = file_named(checkpoint, "config.json")
    if file is None:
        return None
    return VisionConfig.model_validate(json.loads(read_file(store, checkpoint, file))["vision"])


def _on_paper(config: VisionConfig) -> InternVisionModel:
    with torch.device("meta"):
        return InternVisionModel(config).eval()


def cost_of(config: VisionConfig, choice: Choice, sizes: Sizes) -> Cost | None:
    """Return the cost of a row that trains a head; None for others, and where its crops do not fit the encoder."""
    settings = settings_of(PROTOCOLS[choice.protocol], choice.settings)
    if isinstance(settings, linear_probe.Settings):
        return probe_cost(config, settings, sizes)
    if isinstance(settings, SegmentSettings) and not settings.crop_size % config.patch_size:
        return segmentation_cost(config, settings, sizes)
    return None


def probe_cost(config: VisionConfig, settings: linear_probe.Settings, sizes: Sizes) -> Cost:
    """Return the cost of a linear probe; the head costs nothing beside the encoder."""
    looks = sizes.examples
    if settings.augment:
        looks += settings.epochs * sizes.training
    if settings.neighbours or not settings.augment:
        looks += sizes.training
    encoders = 2 if settings.baselines else 1
    return Cost(looks * encoders, 2.0 * looks * encoders * vision_macs(config))


def segmentation_cost(config: VisionConfig, settings: SegmentSettings, sizes: Sizes) -> Cost:
    """Return the cost of training a segmenter and of applying it."""
    # A random encoder costs what ours does, and raw pixels nothing beside it.
    encoders = 2 if settings.baselines and settings.mode == "linear" else 1
    alone = settings.model_copy(update={"baselines": False})
    (made,) = segmentation.segmenters(_Shape(_on_paper(config)), alone, sizes.classes).values()  # type: ignore[arg-type]
    plan = settings.plan()
    crops = plan.iterations * min(plan.batch_size, max(2, sizes.training))
    windows = sizes.examples * WINDOWS
    learning, applying = (_flops(made, settings.crop_size, learns) for learns in (True, False))
    return Cost((crops + windows) * encoders, (crops * learning + windows * applying) * encoders)


def _flops(segmenter: Segmenter, side: int, learns: bool) -> float:
    """Return the operations of one crop."""
    # Batch norm over maps of one cell needs two pictures.
    pixels = torch.empty(2, 3, side, side, device="meta")
    segmenter.train(learns)
    with FlopCounterMode(display=False) as counted, torch.set_grad_enabled(learns):
        if learns:
            made = segmenter.weighed_logits(pixels, torch.zeros(2, dtype=torch.int64, device="meta"))
            torch.stack([logits.sum() for _, logits in made]).sum().backward()
        else:
            segmenter.logits(pixels)
    return float(counted.get_total_flops()) / 2


def flops_per_second(config: VisionConfig) -> float:
    """Return how fast one core of this machine computes encoders of this shape, or matrix products of large ones."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if sum(each.numel() for each in _on_paper(config).parameters()) > LARGEST_TIMED:
            square = torch.ones(1024, 1024)
            return _timed(lambda: square @ square, 2 * 1024.0**3)
        model, side = InternVisionModel(config).eval(), config.image_size
        pixels = torch.zeros(8, config.num_channels, side, side)
        return _timed(lambda: model(pixels, only=-1).last_hidden_state, 16.0 * vision_macs(config))
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _timed(work: Callable[[], Tensor], flops: float) -> float:
    work()  # the first time is slower
    times = max(1, round(TIMED_FLOPS / flops))
    started = time.process_time()
    for _ in range(times):
        work()
    return times * flops / max(1e-6, time.process_time() - started)
