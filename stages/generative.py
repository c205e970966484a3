"""Stage 2 of the paper: teach queries inside the text tower to look at pictures, giving InternVL-G.

Both towers are frozen; queries, cross-attention and two heads learn from contrast, matching and
captioning at once (arXiv:2312.14238, section 3.3 and Table 3).
"""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from models.config import InternVLConfig
from models.generative_objective import GenerativeObjective, is_trained
from models.internvl import InternVL
from models.renaming import fill
from stages.batches import ShardedSamples
from stages.checkpoints import beside, fetch
from stages.generative_batches import GenerativeBatches
from stages.generative_measures import measure
from stages.held_out import SHARE, Share, by_shard, check_road, divide
from stages.manifest import Manifest
from stages.pairs import Texts, shards_of
from stages.train_loop import train
from stages.training.order import Source
from stages.training.schedule import Schedule
from stages.training.task import Finished, Task, parameter_groups
from stages.weight_files import open_weights
from stages.workspace import Output, Workspace

VERSION = 3
FEATURE_BYTES = 1 << 30
"""What the vision tower saw is kept up to this size per process; beyond it, it is seen anew each time."""
TEXT_BYTES = 1 << 28
"""Text vectors are kept up to this size per process."""
FIRST_ROWS = 512
"""Samples whose captions say where queries begin."""


class Parameters(BaseModel):
    """Queries, matching and schedule; the defaults are those of the tiny recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: str = Field(default="shards/caption_quality", description="Artifact to train on.")
    num_query_token: int = Field(default=12, ge=1, description="The paper has 96.")
    cross_attention_frequency: int = Field(
        default=1, ge=1, description="Every how many layers queries see the picture; the paper has 2."
    )
    query_start: Literal["captions", "random"] = Field(
        default="captions",
        description="Where queries begin: at the mean word of captions at each place, or anywhere.",
    )
    hard_negatives: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Share of the wrong captions, by the last step, that the towers find likely among those of the "
        "global batch; it rises from 0, and the others are any caption.",
    )
    paired: bool = Field(
        default=True,
        description="Judge every picture with its own caption and with a wrong one; otherwise with one of the two, "
        "by lot. In pairs matching was learned in every run tried, by lot in three of four (docs/log.md).",
    )
    image_negatives: bool = Field(
        default=False,
        description="Judge each caption a second time, with a wrong picture that the towers find likely, as BLIP-2 "
        "does (arXiv:2301.12597).",
    )
    smallest_crop: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Smallest share of a picture that a random crop shows; 1 shows all, and lets what the tower saw "
        "be kept in memory. The paper crops.",
    )
    blind: bool = Field(
        default=False,
        description="Train with the pictures of other samples: the twin beside which grounding is measured.",
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    held_out_share: Share = SHARE
    held_out: int = Field(
        default=256, ge=0, description="Most of the samples kept aside that are measured on at the end."
    )
    schedule: Schedule = Schedule(
        global_batch_size=96, steps=260, learning_rate=3e-3, warmup_steps=30, beta2=0.98, weight_decay=0.05
    )


def paper_parameters() -> Parameters:
    """Return the paper's stage 2 (arXiv:2312.14238, section 3.3 and the appendix's table of training settings).

    "20K" is 20,480 pairs, 128 for each of 160 GPUs; 80,000 such steps see the 1.6 billion samples of section 3.3.
    Ours, because it is not published: the smallest crop, which the released fine-tuning has, the last learning rate,
    and that half of the wrong captions are likely ones: the paper says that matching follows BLIP-2 and no more.
    """
    return Parameters(
        num_query_token=96,
        cross_attention_frequency=2,
        query_start="random",
        hard_negatives=0.5,
        smallest_crop=0.5,
        schedule=Schedule(
            global_batch_size=20_480,
            steps=80_000,
            learning_rate=5e-5,
            warmup_steps=2000,
            final_ratio=0.0,
            beta2=0.98,
            weight_decay=0.05,
            precision="bf16",
        ),
    )


def config_of(parameters: Parameters, found: InternVLConfig) -> InternVLConfig:
    """Return the shape of InternVL-G on top of an InternVL-C."""
    return found.model_copy(
        update={
            "vision": found.vision.model_copy(update={"drop_path_rate": 0.0}),
            "num_query_token": parameters.num_query_token,
            "cross_attention_frequency": parameters.cross_attention_frequency,
            "label_smoothing": parameters.label_smoothing,
        }
    )


class GenerativeTask:
    """One batch for three objectives through one QLLaMA."""

    def __init__(self, parameters: Parameters, samples: ShardedSamples, contrastive: Path) -> None:
        """Load InternVL-C from a fetched checkpoint, add what looks at pictures, freeze the rest."""
        self.contrastive = contrastive
        rows = divide(samples.fingerprints, parameters.held_out_share, parameters.held_out, samples.name)
        self.samples = [Source(samples.name, by_shard(rows.taught, samples.sizes))]
        self.held_out = rows.aside.tolist()
        found = InternVLConfig.model_validate_json((contrastive / "config.json").read_text())
        self.config = config_of(parameters, found)
        self.model = InternVL(self.config, generative=True)
        fill(self.model, open_weights(contrastive), "InternVL-C", filter(is_trained, self.model.state_dict()))
        self.module = GenerativeObjective(
            self.model,
            paired=parameters.paired,
            image_negatives=parameters.image_negatives,
            # A crop is another picture each time; a sample's text never changes.
            vision_bytes=FEATURE_BYTES if parameters.smallest_crop == 1 else 0,
            text_bytes=TEXT_BYTES,
        )
        self.batches = GenerativeBatches(
            samples,
            Texts.of(contrastive, self.config.context_length),
            self.config.vision.image_size,
            rows=rows.taught,
            seed=parameters.schedule.seed,
            steps=parameters.schedule.steps,
            hard_negatives=parameters.hard_negatives,
            paired=parameters.paired,
            smallest_crop=parameters.smallest_crop,
            blind=parameters.blind,
        )
        if parameters.query_start == "captions":
            self._start_queries()

    def _start_queries(self) -> None:
        """Start each query as the mean word at its place in captions of one form, the commonest that fits.

        Captions of other forms have other words at the same place, and their mean would be none. English
        ones are taken where there are any.
        """
        captions, texts = self.batches.captions, self.batches.texts
        rows = self.batches.rows[:FIRST_ROWS].tolist()
        languages = captions.languages(rows)
        chosen = [row for row, language in zip(rows, languages, strict=True) if language == "en"] or rows
        words = [texts.ids(caption)[1:-1] for caption in captions.read(chosen)]
        words = [each for each in words if each and len(each) <= self.config.num_query_token] or words
        forms = Counter((len(each), each[0]) for each in words if each)
        if not forms:
            return
        form = forms.most_common(1)[0][0]
        alike = torch.tensor([each for each in words if each and (len(each), each[0]) == form])
        with torch.no_grad():
            start = self.model.qllama.model.embed_tokens(alike).mean(dim=0)[: self.config.num_query_token]
            self.model.query_tokens[0, : len(start)] = start

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return what is trained: queries, cross-attention, the second pooling, the matching head, the scale."""
        return parameter_groups(self.module.named_parameters(), weight_decay)

    def finish(self) -> Finished:
        """Measure on the samples kept aside and return InternVL-G under the official names."""
        found = measure(self.model, self.batches, self.held_out) if len(self.held_out) > 1 else {}
        return Finished(self.model.state_dict(), beside(self.config, self.contrastive), found)


def build(parameters: Parameters, here: Workspace) -> Task:
    """Return what is trained, and on what."""
    check_road(parameters.held_out_share, here.inputs.values())
    _, samples = shards_of(here, parameters.shards)
    contrastive = fetch(here.store, here.input("checkpoints/contrastive"), here.scratch / "contrastive")
    return GenerativeTask(parameters, samples, contrastive)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Train InternVL-G."""
    return train(build, parameters, output, here)
