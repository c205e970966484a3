"""Stage 1 of the paper: train InternViT against a language model's text vectors, giving InternVL-C.

The vision tower starts from nothing, or from a trained one, which the paper does not do; the text tower
from a language model (arXiv:2312.14238, section 3.3 and Table 3). The language model's head is carried
along unchanged, so that the next stage finds the whole QLLaMA in one checkpoint.
"""

import json
from pathlib import Path
from typing import Any

import torch

from models.config import TextConfig
from models.contrastive_objective import ContrastiveObjective
from models.internvl import InternVL, clamp_logit_scale
from models.learning_rates import LearningRates
from models.qllama import LlamaForCausalLM
from models.renaming import fill
from stages.batches import ShardedSamples
from stages.checkpoints import beside, fetch
from stages.contrastive_parameters import Parameters, config_of
from stages.held_out import by_shard, check_road, divide
from stages.manifest import Manifest
from stages.pair_batches import Augmentation, PairBatches
from stages.pair_measures import language_loss, measured_retrieval
from stages.pairs import Texts, shards_of
from stages.pretrained_vision import started
from stages.train_loop import train
from stages.training.order import Source
from stages.training.task import Finished, Metrics, Task, parameter_groups
from stages.weight_files import open_weights
from stages.workspace import Output, Workspace

__all__ = ["VERSION", "ContrastiveTask", "Parameters", "run"]

VERSION = 3


class ContrastiveTask:
    """Pictures and captions of one global batch, told apart by their pairs."""

    def __init__(self, parameters: Parameters, samples: ShardedSamples, language: Path) -> None:
        """Start the vision tower from nothing or a trained one, the text tower from a fetched language checkpoint."""
        self.parameters, self.language = parameters, language
        rows = divide(samples.fingerprints, parameters.held_out_share, parameters.held_out, samples.name)
        self.samples = [Source(samples.name, by_shard(rows.taught, samples.sizes))]
        self.held_out = rows.aside.tolist()
        text = TextConfig.model_validate(json.loads((language / "config.json").read_text())["text"])
        self.config = config_of(parameters, text)
        seed = parameters.schedule.seed
        with torch.random.fork_rng():
            # All processes start from the same weights, whatever was drawn before.
            torch.manual_seed(seed)
            self.model = InternVL(self.config, generative=False)
        if parameters.start_vision is not None:
            vision = started(parameters.start_vision, self.config.vision)
            # What the file has its own way (such as eps) is published as it was trained.
            self.config = self.config.model_copy(update={"vision": vision.config})
            self.model.vision_model, self.model.config = vision, self.config
        fill(self.model.qllama, open_weights(language), "the language model")
        self.model.qllama.lm_head.requires_grad_(False)
        if not parameters.text_learning_rate_scale:
            self.model.qllama.requires_grad_(False)
        self.module = ContrastiveObjective(self.model, loss=parameters.loss)
        texts = Texts.of(language, self.config.context_length)
        augmentation = Augmentation(parameters.smallest_crop)
        self.batches = PairBatches(samples, texts, parameters.views(), seed, augmentation, rows.taught)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the trained parameters; the text tower learns more slowly than the rest."""
        given = self.parameters
        rates = LearningRates(
            vision_layers=self.config.vision.num_hidden_layers,
            text_layers=self.config.text.num_hidden_layers,
            text=given.text_learning_rate_scale,
            patch_embedding=given.patch_learning_rate_scale,
            layer_decay=given.layer_decay,
        )
        named = ((name.removeprefix("model."), value) for name, value in self.module.named_parameters())
        return parameter_groups(named, weight_decay, rates.of)

    def finish(self) -> Finished:
        """Measure on the samples kept aside and return InternVL-C under the official names."""
        clamp_logit_scale(self.model)
        files = beside(self.model.config, self.language)
        return Finished(self.model.state_dict(), files, self._measure() if self.held_out else {})

    def _measure(self) -> Metrics:
        """Return retrieval among the samples kept aside, and what the text tower still knows of language."""
        texts, captions = self.batches.texts, self.batches.captions.read(self.held_out)
        pictures = self.batches.pictures(self.parameters.image_size)
        found = measured_retrieval(self.model, self.model.encode_image, pictures, texts, self.held_out, captions)
        before = LlamaForCausalLM(self.config.text).to(self.model.logit_scale.device)
        fill(before, open_weights(self.language), "the language model")
        found["language_loss_before"] = language_loss(before, texts, captions)
        found["language_loss_after"] = language_loss(self.model.qllama, texts, captions)
        return {name: round(value, 4) for name, value in found.items()}


def build(parameters: Parameters, here: Workspace) -> Task:
    """Return what is trained, and on what."""
    check_road(parameters.held_out_share, here.inputs.values())
    _, samples = shards_of(here, parameters.shards)
    language = fetch(here.store, here.input("checkpoints/language"), here.scratch / "language")
    return ContrastiveTask(parameters, samples, language)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Train InternVL-C."""
    return train(build, parameters, output, here)
