"""What one trained variant is measured on: accuracy without training, calm, and how its attention's numbers grew."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from models.attention_logits import attention_logits
from models.config import VisionConfig
from models.intern_vit import InternVisionModel
from stages.checkpoints import fetch
from stages.evaluate import load_judge
from stages.evaluation_drawn import contrastive
from stages.evaluation_metrics import Measure
from stages.evaluation_report import Findings
from stages.evaluation_retrieval import Judge
from stages.evaluation_world import worlds
from stages.manifest import Ledger, Manifest, Part, digest_of
from stages.pairs import normalise, resize
from stages.pretrained_vision import started
from stages.sources.scenes import Split, evaluation_pictures
from stages.study.parameters import Parameters
from stages.study.stability import stability
from stages.study.training import Training, history_of
from stages.workspace import Output

PROBED = 32
"""Drawn pictures on which attention logits are taken; the same for all variants."""

CEILING = 1e9
"""Largest logit that is told: weights that ran away may give more, or none that is a number."""


@dataclass(frozen=True)
class Trained:
    """A variant's checkpoint that is to be measured."""

    training: Training
    checkpoint: Manifest

    @property
    def key(self) -> str:
        """Return its part's name."""
        return self.training.name


def _mean(measures: Sequence[Measure], name: str) -> dict[str, float]:
    some = [each for each in measures if each.name.startswith(name)]
    return {"value": fmean(each.value for each in some), "chance": fmean(each.chance or 0.0 for each in some)}


def drawn_accuracy(judge: Judge, parameters: Parameters) -> dict[str, dict[str, float]]:
    """Return two accuracies on drawn scenes that no training shows, each a mean over splits, languages and questions.

    `choose`: which of a slot's words fits the picture, the rest of the caption being right. `retrieval`: the one best
    caption or picture of all, in both directions.
    """
    found = Findings()
    for world in worlds(parameters.scenes, parameters.world_seed, parameters.training.image_size):
        contrastive(judge, world, parameters.languages, found)
    return {"choose": _mean(found.measures, "choose_"), "retrieval": _mean(found.measures, "recall_at_1_")}


def held_out_accuracy(checkpoint: Manifest) -> dict[str, dict[str, float]]:
    """Return retrieval among the pictures that this training kept aside, as it measured it itself."""
    totals = checkpoint.totals
    both = (totals["recall_at_1_image_to_text"], totals["recall_at_1_text_to_image"])
    return {"retrieval": {"value": fmean(both), "chance": totals["recall_at_1_chance"]}}


def _logits(model: InternVisionModel, parameters: Parameters) -> float:
    size = parameters.training.image_size
    pictures = evaluation_pictures(Split.IID, PROBED, parameters.world_seed, size)
    pixels = normalise([resize(picture, size) for picture, _ in pictures])
    found = max(attention_logits(model, pixels.to(model.embeddings.position_embedding.device)))
    return min(found, CEILING) if math.isfinite(found) else CEILING


def untrained(config: VisionConfig, seed: int, start_vision: str | None) -> InternVisionModel:
    """Return the encoder with which a training begins: drawn, first of all that is drawn, or taken from files.

    It is what `ContrastiveTask` begins with, without the rest of the model, which at full size is not small.
    """
    if start_vision is not None:
        return started(start_vision, config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return InternVisionModel(config)


def _seen(item: Trained, parameters: Parameters, output: Output) -> dict[str, Any]:
    """Return what the trained weights tell: accuracy, and attention logits before and after."""
    folder = Path(tempfile.mkdtemp(prefix="internvl-variant-"))
    try:
        judge = load_judge(fetch(output.store, item.checkpoint, folder), 192, item.checkpoint)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    given = parameters.trained(item.training.variant, item.training.seed)
    start = untrained(given.vision(), item.training.seed, given.start_vision).to(judge.device)
    return {
        "accuracy": drawn_accuracy(judge, parameters) if parameters.scenes else held_out_accuracy(item.checkpoint),
        "logits": {"start": _logits(start, parameters), "end": _logits(judge.model.vision_model, parameters)},
    }


def findings(item: Trained, parameters: Parameters, output: Output) -> dict[str, Any]:
    """Return all numbers of one trained variant, as JSON; of a trial at a raised rate only how calm it was."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # sums over one thread come in one order
    history = history_of(output.store, item.checkpoint)
    return {
        "variant": item.training.variant.name,
        "seed": item.training.seed,
        "checkpoint": str(item.checkpoint.ref),
        "stability": asdict(stability(history, parameters.training.schedule.warmup_steps, parameters.guessing)),
        **(_seen(item, parameters, output) if item.training.factor == 1 else {}),
    }


def measure_trained(item: Trained, parameters: Parameters, output: Output) -> Part:
    """Publish the numbers of one trained variant as a part of the study; made twice it is the same."""
    found = findings(item, parameters, output)
    return output.part(item.key, digest_of(item.checkpoint.digest), Ledger(listed=1, kept=1), {}, found)
