"""Semantic segmentation on an encoder (arXiv:2312.14238, section 4.2 and its appendix): linear, UperNet, fine-tuned.

`segment_settings` says what the four modes are.
"""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from models.intern_vit import InternVisionModel
from models.segmentation_heads import LinearSegmenter, UperNet
from stages.evaluations.base import Examples, Outcome, Subject
from stages.evaluations.encoders import MEASURED, RANDOM, RAW, device_of, random_vision, seeded
from stages.evaluations.probe_crops import training_of
from stages.evaluations.segment_crops import Mask, classes_of, read
from stages.evaluations.segment_measures import (
    Areas,
    areas,
    class_measures,
    measures_of,
    parts_by_name,
    pictured,
    ratios_by_name,
    shown_of,
)
from stages.evaluations.segment_settings import Settings
from stages.evaluations.segment_training import Plan, chosen_share, crops, train_segmenters
from stages.evaluations.segmenter import Segmenter, predict, raw_patches, seen_by
from stages.manifest import ManifestError
from stages.quantities import gigabytes

SHOWN = 6
LEARNING_BYTES = 16
"""Per number that learns: itself, its gradient and AdamW's two moments in single precision."""


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
    with seeded(settings.seed), device:
        model = InternVisionModel(vision.config.model_copy(update={"drop_path_rate": settings.drop_path_rate}))
    model.load_state_dict(vision.state_dict())
    model.gradient_checkpointing = device.type == "cuda"
    return model


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
    shown = set(shown_of(examples, SHOWN))
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
        ratios=ratios_by_name(names),
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
