"""Stage 1 of the paper: train InternViT against a language model's text vectors, giving InternVL-C.

The vision tower starts from nothing, the text tower from a language model (arXiv:2312.14238,
section 3.3 and Table 3). The language model's head is carried along unchanged, so that the next
stage finds the whole QLLaMA in one checkpoint.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save
from torch import Tensor

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.contrastive_objective import ContrastiveObjective
from models.internvl import InternVL, clamp_logit_scale
from models.losses import IGNORE
from models.qllama import LlamaForCausalLM
from stages.batches import ShardedSamples, generator_of
from stages.checkpoints import fetch
from stages.manifest import Manifest, ManifestError
from stages.pairs import Captions, Pictures, Texts, caption_ids, random_box, shards_of, training_rows
from stages.train_loop import train
from stages.training.schedule import Schedule
from stages.training.task import Finished, Metrics, Task, parameter_groups
from stages.workspace import Output, Workspace

VERSION = 1
MEASURE_BATCH = 128


class Parameters(BaseModel):
    """Sizes and schedule; the defaults are those of the tiny recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: str = Field(default="shards/clean", description="Artifact to train on.")
    image_size: int = Field(default=48, ge=8)
    patch_size: int = Field(default=8, ge=1)
    hidden_size: int = Field(default=96, ge=8, description="Width of the vision tower.")
    intermediate_size: int = Field(default=384, ge=8)
    num_hidden_layers: int = Field(default=4, ge=1)
    num_attention_heads: int = Field(default=3, ge=1)
    layer_scale: float = Field(
        default=1.0,
        gt=0,
        description="First value of the layer scales; InternViT-6B has 0.1, few layers learn with 1.",
    )
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1, description="The same in every block; the paper has 0.2.")
    embed_dim: int = Field(default=64, ge=2, description="Width of the shared space; the paper has 768.")
    attn_pool_num_heads: int = Field(default=4, ge=1)
    context_length: int = Field(
        default=80, ge=4, description="Most tokens of a caption with its prefix and both ends."
    )
    text_learning_rate_scale: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Of the text tower, whose language the next stages need intact; the paper has 0.1, "
        "0.5 destroyed it at the tiny size; 0 freezes it.",
    )
    mask_ratio: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the patches left out at random (FLIP); the paper has 0.5."
    )
    unmasked_steps: int = Field(default=0, ge=0, description="Last steps that see all patches, with a mask_ratio.")
    smallest_crop: float = Field(
        default=1.0, gt=0, le=1, description="Smallest share of a picture that a random crop shows; 1 shows all."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    held_out: int = Field(
        default=256, ge=0, description="The last samples of the shards: never trained on, measured at the end."
    )
    schedule: Schedule = Schedule(global_batch_size=192, steps=200, learning_rate=2e-3, warmup_steps=30)

    def vision(self) -> VisionConfig:
        """Return the shape of the vision tower."""
        return VisionConfig(
            image_size=self.image_size,
            patch_size=self.patch_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            initializer_factor=self.layer_scale,
            drop_path_rate=self.drop_path_rate,
            drop_path_schedule="uniform",
        )


def config_of(parameters: Parameters, text: TextConfig) -> InternVLConfig:
    """Return the shape of InternVL-C on top of a language model.

    Raises:
        ManifestError: Sizes do not fit together.
    """
    if parameters.image_size % parameters.patch_size:
        raise ManifestError(
            f"image_size {parameters.image_size} does not divide into patches of {parameters.patch_size}; "
            "choose a multiple"
        )
    for name, heads in (
        ("num_attention_heads", parameters.num_attention_heads),
        ("attn_pool_num_heads", parameters.attn_pool_num_heads),
    ):
        if parameters.hidden_size % heads:
            raise ManifestError(f"hidden_size {parameters.hidden_size} does not divide into {name} {heads}")
    return InternVLConfig(
        vision=parameters.vision(),
        text=text,
        embed_dim=parameters.embed_dim,
        attn_pool_num_heads=parameters.attn_pool_num_heads,
        context_length=min(parameters.context_length, text.max_position_embeddings),
        label_smoothing=parameters.label_smoothing,
    )


class ContrastiveTask:
    """Pictures and captions of one global batch, told apart by their pairs."""

    def __init__(self, parameters: Parameters, shards: Manifest, samples: ShardedSamples, language: Path) -> None:
        """Start the vision tower from nothing and the text tower from a fetched language checkpoint."""
        self.parameters, self.language = parameters, language
        self.samples = training_rows(samples, parameters.held_out, shards)
        self.held_out = list(range(self.samples, len(samples)))
        text = TextConfig.model_validate(json.loads((language / "config.json").read_text())["text"])
        self.config = config_of(parameters, text)
        self.model = InternVL(self.config, generative=False)
        self.model.qllama.load_state_dict(load_file(language / "model.safetensors"))
        self.model.qllama.lm_head.requires_grad_(False)
        if not parameters.text_learning_rate_scale:
            self.model.qllama.requires_grad_(False)
        self.module = ContrastiveObjective(self.model)
        self.texts = Texts.of(language, self.config.context_length)
        self.pictures = Pictures(samples, parameters.image_size)
        self.captions = Captions(samples)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the trained parameters; the text tower learns more slowly than the rest."""
        slow = self.parameters.text_learning_rate_scale
        return parameter_groups(
            self.module.named_parameters(),
            weight_decay,
            lambda name: slow if name.startswith("model.qllama.") else 1.0,
        )

    def batches(self, rows: Sequence[int], step: int) -> dict[str, Tensor]:
        """Return pictures, texts and, with masking, which patches are seen."""
        given, seed = self.parameters, self.parameters.schedule.seed
        boxes = {}
        if given.smallest_crop < 1:
            boxes = {row: random_box(generator_of(seed, "crop", step, row), given.smallest_crop) for row in rows}
        input_ids, mask = self.texts.summaries(self.captions.read(rows))
        batch = {
            "pixel_values": self.pictures.batch(rows, boxes),
            "input_ids": input_ids,
            "attention_mask": mask,
        }
        if given.mask_ratio and step < given.schedule.steps - given.unmasked_steps:
            batch["keep_patches"] = torch.stack([self._seen(generator_of(seed, "mask", step, row)) for row in rows])
        return batch

    def _seen(self, rng: Any) -> Tensor:
        """Return which patches one picture shows, in order."""
        patches = self.config.vision.grid**2
        kept = max(1, round(patches * (1 - self.parameters.mask_ratio)))
        return torch.from_numpy(rng.permutation(patches)[:kept]).sort().values

    def finish(self) -> Finished:
        """Measure on the samples kept aside and pack InternVL-C under the official names."""
        clamp_logit_scale(self.model)
        files = {
            "model.safetensors": save({k: v.contiguous().cpu() for k, v in self.model.state_dict().items()}),
            "config.json": self.config.model_dump_json(indent=2).encode(),
            "tokenizer.json": (self.language / "tokenizer.json").read_bytes(),
        }
        return Finished(files, self._measure() if self.held_out else {})

    def _measure(self) -> Metrics:
        """Return retrieval among the samples kept aside, and what the text tower still knows of language."""
        device = self.model.logit_scale.device
        captions = self.captions.read(self.held_out)
        images, texts = [], []
        for start in range(0, len(captions), MEASURE_BATCH):
            rows = self.held_out[start : start + MEASURE_BATCH]
            images.append(self.model.encode_image(self.pictures.batch(rows).to(device)))
            ids, mask = self.texts.summaries(captions[start : start + MEASURE_BATCH])
            texts.append(self.model.encode_text(ids.to(device), mask.to(device)))
        found = retrieval(torch.cat(images), torch.cat(texts), caption_ids(captions).to(device))
        before = LlamaForCausalLM(self.config.text).to(device)
        before.load_state_dict(load_file(self.language / "model.safetensors"))
        found["language_loss_before"] = _language_loss(before, self.texts, captions)
        found["language_loss_after"] = _language_loss(self.model.qllama, self.texts, captions)
        return {name: round(value, 4) for name, value in found.items()}


def retrieval(images: Tensor, texts: Tensor, ids: Tensor) -> Metrics:
    """Return recall at one in both directions, and what guessing would give; equal captions are all right.

    Args:
        images: Unit vectors of shape (pairs, embed_dim).
        texts: As `images`.
        ids: Shape (pairs,); which captions are equal.
    """
    right = ids[:, None] == ids[None]
    scores = images @ texts.T
    pairs = torch.arange(len(ids), device=ids.device)
    return {
        "held_out": float(len(ids)),
        "recall_at_1_image_to_text": float(right[pairs, scores.argmax(dim=1)].float().mean()),
        "recall_at_1_text_to_image": float(right[scores.argmax(dim=0), pairs].float().mean()),
        "recall_at_1_chance": float(right.float().mean()),
    }


def _language_loss(model: LlamaForCausalLM, texts: Texts, captions: Sequence[str]) -> float:
    """Return the mean next-token loss of captions without a picture."""
    device = model.lm_head.weight.device
    total = count = 0.0
    for start in range(0, len(captions), MEASURE_BATCH):
        ids, mask = texts.plain(captions[start : start + MEASURE_BATCH])
        labels = ids.masked_fill(mask == 0, IGNORE)[:, 1:].to(device)
        logits = model(ids.to(device))[:, :-1]
        total += float(F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="sum"))
        count += float((labels != IGNORE).sum())
    return total / max(1.0, count)


def _build(parameters: Parameters, here: Workspace) -> Task:
    shards, samples = shards_of(here, parameters.shards)
    language = fetch(here.store, here.input("checkpoints/language"), here.scratch / "language")
    return ContrastiveTask(parameters, shards, samples, language)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Train InternVL-C."""
    return train(_build, parameters, output, here)
