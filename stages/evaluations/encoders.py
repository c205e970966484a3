"""What a probe reads: the encoder that is measured, and beside it two that learned nothing.

A head alone learns something from any numbers. Raw pixels say how much a linear map finds in the pictures
themselves, a random encoder of the same shape how much the architecture gives away; what lies above both was learned.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import VisionConfig
from models.intern_vit import InternVisionModel
from models.preprocess import classification_values
from models.probes import class_and_mean
from stages.evaluation_metrics import Floats
from stages.evaluations.base import Examples, Subject
from stages.evaluations.probe_crops import ahead
from stages.manifest import ManifestError

TOGETHER = 64
"""Pictures in an encoder at once."""
MEASURED, RAW, RANDOM = "encoder", "raw_pixels", "random_encoder"


@dataclass(frozen=True)
class Encoder:
    """Something that turns pictures into one vector each."""

    name: str
    width: int
    encode: Callable[[Tensor], Tensor]
    """From normalised pictures (batch, 3, side, side) to float32 (batch, width)."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch draw from a seed for a while, whatever it drew before, and go on afterwards as if it had not."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def precision(device: torch.device) -> "torch.autocast | nullcontext[None]":
    """Return how an encoder computes: in bfloat16 on a GPU, in single precision elsewhere."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def device_of(subject: Subject) -> torch.device:
    """Return where the subject's vision tower is."""
    return subject.vision.embeddings.class_embedding.device


def random_vision(like: InternVisionModel, seed: int) -> InternVisionModel:
    """Return an encoder of the same shape, precision and place that learned nothing."""
    with seeded(seed):
        model = InternVisionModel(like.config)
    return model.eval().to(like.embeddings.class_embedding)


def raw_side(config: VisionConfig) -> int:
    """Return the side of a small picture with about as many numbers as a probe reads of the encoder."""
    return max(1, round(math.sqrt(2 * config.hidden_size / config.num_channels)))


def _reading(vision: Callable[[], InternVisionModel]) -> Callable[[Tensor], Tensor]:
    """Return what a probe reads of an encoder, which is not there before it is asked."""

    @torch.no_grad()
    def encode(pixels: Tensor) -> Tensor:
        with precision(pixels.device):
            states = [vision()(piece, only=-1).last_hidden_state for piece in pixels.split(TOGETHER)]
        return torch.cat([class_and_mean(each.float()) for each in states])

    return encode


def encoders(subject: Subject, seed: int, baselines: bool) -> list[Encoder]:
    """Return the subject's encoder, and with `baselines` raw pixels and a random encoder."""
    vision = subject.vision
    config = vision.config
    found = [Encoder(MEASURED, 2 * config.hidden_size, _reading(lambda: vision))]
    if not baselines:
        return found
    side = raw_side(config)

    def shrunk(pixels: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(pixels, side).flatten(1)

    @cache
    def blank() -> InternVisionModel:
        return random_vision(vision, seed)

    return [
        *found,
        Encoder(RAW, config.num_channels * side**2, shrunk),
        Encoder(RANDOM, 2 * config.hidden_size, _reading(blank)),
    ]


def remembered_together(
    subject: Subject, examples: Examples, wanted: Mapping[str, str], make: Callable[[], Mapping[str, Floats]]
) -> dict[str, Floats]:
    """Return several arrays that are made in one go and remembered one by one.

    Args:
        subject: Whose memory it is.
        examples: What they are about.
        wanted: What each is remembered as, by its name in what `make` makes.
        make: Makes all; called once at most.
    """
    once = cache(make)

    def part(name: str) -> Callable[[], Floats]:
        return lambda: once()[name]

    return {name: subject.remembered(what, examples, part(name)) for name, what in wanted.items()}


def features(subject: Subject, examples: Examples, chosen: Sequence[Encoder], seed: int) -> dict[str, Floats]:
    """Return what encoders say about the middles of all pictures, by encoder, each of shape (examples, width).

    Raises:
        ManifestError: An encoder gives numbers that are none.
    """
    side, device, total = subject.vision.config.image_size, device_of(subject), len(examples)

    def batch(number: int) -> Tensor:
        rows = range(number * TOGETHER, min(total, (number + 1) * TOGETHER))
        return torch.stack([classification_values(examples.pictures(row)[0], side) for row in rows])

    def make() -> dict[str, Floats]:
        found: dict[str, list[Floats]] = {encoder.name: [] for encoder in chosen}
        for number, pixels in enumerate(ahead(batch, -(-total // TOGETHER))):
            subject.progress(number * TOGETHER, total, "pictures")
            for encoder in chosen:
                found[encoder.name].append(encoder.encode(pixels.to(device)).double().cpu().numpy())
        subject.progress(total, total, "pictures")
        return {name: np.concatenate(pieces) for name, pieces in found.items()}

    made_by = {RANDOM: f", seed {seed}"}
    wanted = {each.name: f"{each.name} features, middle {side}{made_by.get(each.name, '')}" for each in chosen}
    found = remembered_together(subject, examples, wanted, make)
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise ManifestError(
                f"{subject.name}: the {name.replace('_', ' ')} gives numbers that are not finite for some pictures; "
                "the checkpoint is broken: look at its loss curve and take an earlier one"
            )
    return found
