"""Stage 2 of the paper: teach queries inside the text tower to look at pictures, giving InternVL-G.

Both towers are frozen; queries, cross-attention and two heads learn from contrast, matching and
captioning at once (arXiv:2312.14238, section 3.3 and Table 3). What the frozen towers say of a
sample never changes, so it is computed once and kept.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save
from torch import Tensor

from models.config import InternVLConfig
from models.internvl import GenerativeObjective, InternVL, clamp_logit_scale
from models.losses import caption_loss
from stages.batches import ShardedSamples, generator_of, permutation, rows_of
from stages.checkpoints import fetch
from stages.contrastive import retrieval
from stages.manifest import Manifest
from stages.pairs import Captions, Pictures, Texts, caption_ids, shards_of, training_rows
from stages.train_loop import train
from stages.training.schedule import Schedule
from stages.training.task import Finished, Metrics, Task, parameter_groups
from stages.workspace import Output, Workspace

VERSION = 1
FEATURE_BYTES = 1 << 30
"""What the vision tower saw is kept up to this size per process; beyond it, it is seen anew each time."""
CHUNK = 16
"""Samples that pass the frozen towers together."""
MEASURE_BATCH = 64
TRAINED = ("query_tokens", "clip_projector2.", "itm_head.", "logit_scale")


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
        description="Share of the wrong captions, by the last step, that the towers find likely; it rises from 0, "
        "and the others are any caption. With 0.7 and twice the learning rate matching was not learned here.",
    )
    mining_group: int = Field(
        default=48, ge=2, description="Samples of a global batch among which a likely wrong caption is sought."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    held_out: int = Field(
        default=256,
        ge=0,
        description="The last samples of these shards: never trained on in this stage, measured at the end.",
    )
    schedule: Schedule = Schedule(
        global_batch_size=96, steps=200, learning_rate=1.5e-3, warmup_steps=30, beta2=0.98, weight_decay=0.05
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


def is_trained(name: str) -> bool:
    """Return whether a weight learns in this stage."""
    return name.startswith(TRAINED) or (name.startswith("qllama.") and ".cross_attn." in name)


class Constants:
    """What the frozen towers say of each sample: (what was seen, picture vector, text vector).

    Samples pass in chunks that follow the first epoch's order, whoever asks for them: the same
    numbers to the last bit after a restart and on any number of processes.
    """

    def __init__(
        self, model: InternVL, pictures: Pictures, captions: Captions, texts: Texts, samples: int, seed: int
    ) -> None:
        """Compute nothing yet."""
        self.model, self.pictures, self.captions, self.texts = model, pictures, captions, texts
        self._order = permutation(seed, 0, samples)
        self._place = np.argsort(self._order)
        vision = model.config.vision
        each = 4 * ((vision.grid**2 + 1) * vision.hidden_size + 2 * model.config.embed_dim)
        self._keep = samples * each <= FEATURE_BYTES
        self._known: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    @torch.no_grad()
    def compute(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return vision (rows, 1 + patches, width), picture and text vectors (rows, embed_dim), on the CPU."""
        device = self.model.logit_scale.device
        vision = self.model.see(self.pictures.batch(rows).to(device))
        ids, mask = self.texts.summaries(self.captions.read(rows))
        text = self.model.encode_text(ids.to(device), mask.to(device))
        return vision.cpu(), self.model.pool_image(vision).cpu(), text.cpu()

    def of(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same as `compute`, from memory where it is known."""
        if not self._keep:
            return self.compute(rows)
        for row in rows:
            if row not in self._known:
                start = int(self._place[row]) // CHUNK * CHUNK
                chunk = [int(other) for other in self._order[start : start + CHUNK]]
                self._known.update(zip(chunk, zip(*self.compute(chunk), strict=True), strict=True))
        vision, image, text = zip(*(self._known[row] for row in rows), strict=True)
        return torch.stack(vision), torch.stack(image), torch.stack(text)


class GenerativeTask:
    """One batch for three objectives through one QLLaMA."""

    def __init__(self, parameters: Parameters, shards: Manifest, samples: ShardedSamples, contrastive: Path) -> None:
        """Load InternVL-C from a fetched checkpoint, add what looks at pictures, freeze the rest."""
        self.parameters, self.contrastive = parameters, contrastive
        self.samples = training_rows(samples, parameters.held_out, shards)
        self.held_out = list(range(self.samples, len(samples)))
        found = InternVLConfig.model_validate_json((contrastive / "config.json").read_text())
        self.config = config_of(parameters, found)
        self.model = InternVL(self.config, generative=True)
        missing, unknown = self.model.load_state_dict(load_file(contrastive / "model.safetensors"), strict=False)
        if unknown or not all(map(is_trained, missing)):
            raise ValueError(f"{contrastive} is no InternVL-C: {sorted([*unknown, *missing])[:4]}")
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(is_trained(name))
        self.module = GenerativeObjective(self.model)
        self.texts = Texts.of(contrastive, self.config.context_length)
        self.captions = Captions(samples)
        pictures = Pictures(samples, self.config.vision.image_size, decoded_bytes=0)
        seed = parameters.schedule.seed
        self.constants = Constants(self.model, pictures, self.captions, self.texts, self.samples, seed)
        self._scale = float(self.model.logit_scale.detach().exp())
        if parameters.query_start == "captions":
            self._start_queries()

    def _start_queries(self) -> None:
        """Start each query as the mean word of captions at its place; English ones where there are any."""
        rows = list(range(min(512, self.samples)))
        languages = self.captions.languages(rows)
        chosen = [row for row, language in zip(rows, languages, strict=True) if language == "en"] or rows
        ids, mask = self.texts.plain(self.captions.read(chosen))
        with torch.no_grad():
            words = self.model.qllama.model.embed_tokens(ids) * mask[..., None]
            for place in range(min(self.config.num_query_token, ids.shape[1] - 1)):
                # Place 0 of a text is its beginning, the same in all of them.
                count = mask[:, place + 1].sum().clamp(min=1)
                self.model.query_tokens[0, place] = words[:, place + 1].sum(dim=0) / count

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return what is trained: queries, cross-attention, the second pooling, the matching head, the scale."""
        return parameter_groups(self.module.named_parameters(), weight_decay)

    def batches(self, rows: Sequence[int], step: int) -> dict[str, Tensor]:
        """Return what the frozen towers say, captions to judge, and captions to write."""
        vision, _, text_features = self.constants.of(rows)
        captions = self.captions.read(rows)
        judged, labels = self._to_judge(rows, step)
        itm_ids, itm_mask = self.texts.plain(judged)
        itg_ids, itg_mask, itg_labels = self.texts.prompted(captions, self.captions.languages(rows))
        return {
            "vision": vision,
            "text_features": text_features,
            "itm_input_ids": itm_ids,
            "itm_attention_mask": itm_mask,
            "itm_labels": torch.tensor(labels),
            "itg_input_ids": itg_ids,
            "itg_attention_mask": itg_mask,
            "itg_labels": itg_labels,
        }

    def _to_judge(self, rows: Sequence[int], step: int) -> tuple[list[str], list[int]]:
        """Return one caption per picture and whether it is its own: half are, the others are drawn per sample.

        The wrong captions that the towers find likely come from a piece of the global batch that does
        not depend on how many processes share it (BLIP-2 draws them from all, arXiv:2301.12597).
        """
        schedule = self.parameters.schedule
        everyone = rows_of(
            step, seed=schedule.seed, samples=self.samples, global_batch_size=schedule.global_batch_size
        )
        # A sample may stand twice in one global batch where epochs meet; the first place counts then.
        place = {row: number for number, row in reversed(list(enumerate(everyone)))}
        size, likely = self.parameters.mining_group, self.parameters.hard_negatives * step / schedule.steps
        judged, labels = [], []
        for row in rows:
            rng = generator_of(schedule.seed, "match", step, row)
            own = chosen = self.captions.one(row)
            if rng.random() >= 0.5:
                start = place[row] // size * size
                near = everyone[start : start + size] if rng.random() < likely else []
                chosen = self._likely(row, near, rng) or self._any_other(own, rng)
            judged.append(chosen)
            labels.append(int(chosen == own))
        return judged, labels

    def _likely(self, row: int, near: Sequence[int], rng: np.random.Generator) -> str | None:
        """Return a wrong caption drawn by how well the frozen towers think that it fits, None without any."""
        own = self.captions.one(row)
        others = [other for other in near if self.captions.one(other) != own]
        if not others:
            return None
        scores = self.constants.of(others)[2] @ self.constants.of([row])[1][0]
        odds = (self._scale * scores).double().softmax(dim=0).cumsum(dim=0).numpy()
        drawn = int(np.searchsorted(odds, rng.random() * odds[-1], side="right"))
        return self.captions.one(others[min(drawn, len(others) - 1)])

    def _any_other(self, own: str, rng: np.random.Generator) -> str:
        """Return the caption of any other sample; `own` where twenty draws found no other."""
        for _ in range(20):
            other = self.captions.one(int(rng.integers(self.samples)))
            if other != own:
                return other
        return own

    def finish(self) -> Finished:
        """Measure on the samples kept aside and pack InternVL-G under the official names."""
        clamp_logit_scale(self.model)
        files = {
            "model.safetensors": save({k: v.contiguous().cpu() for k, v in self.model.state_dict().items()}),
            "config.json": self.config.model_dump_json(indent=2).encode(),
            "tokenizer.json": (self.contrastive / "tokenizer.json").read_bytes(),
        }
        return Finished(files, self._measure() if len(self.held_out) > 1 else {})

    def _measure(self) -> Metrics:
        """Return retrieval, matching and captioning among the samples kept aside, each beside what guessing gives."""
        model, device = self.model, self.model.logit_scale.device
        captions = self.captions.read(self.held_out)
        languages = self.captions.languages(self.held_out)
        wrong = [self._any_other(own, generator_of("wrong caption", number)) for number, own in enumerate(captions)]
        found: dict[str, list[Tensor]] = {}
        for start in range(0, len(captions), MEASURE_BATCH):
            piece = slice(start, start + MEASURE_BATCH)
            vision, image, text = (each.to(device) for each in self.constants.compute(self.held_out[piece]))
            hidden, cache = model.ask(vision)
            queries = model.pool_queries(hidden)
            each = {"text": text, "queries": queries, "both": F.normalize(image + queries, dim=-1)}
            for name, judged in (("right", captions[piece]), ("wrong", wrong[piece])):
                ids, mask = (part.to(device) for part in self.texts.plain(judged))
                logits = model.match(vision, ids, mask)
                each[name] = logits[:, 1] - logits[:, 0]
            ids, mask, labels = (part.to(device) for part in self.texts.prompted(captions[piece], languages[piece]))
            each["caption"] = caption_loss(model.describe(cache, ids, mask), labels)[None]
            _, elsewhere = model.ask(vision.roll(1, dims=0))
            each["caption_elsewhere"] = caption_loss(model.describe(elsewhere, ids, mask), labels)[None]
            for name, value in each.items():
                found.setdefault(name, []).append(value)
        whole = {name: torch.cat(values) for name, values in found.items()}
        numbers = caption_ids(captions).to(device)
        queries_alone = retrieval(whole["queries"], whole["text"], numbers)
        both = retrieval(whole["both"], whole["text"], numbers)
        metrics = {
            **{f"queries_{name}": value for name, value in queries_alone.items() if "_to_" in name},
            **both,
            "matching_auc": area_under_curve(whole["right"], whole["wrong"]),
            "matching_auc_chance": 0.5,
            "caption_loss": float(whole["caption"].mean()),
            "caption_loss_of_another_picture": float(whole["caption_elsewhere"].mean()),
        }
        return {name: round(value, 4) for name, value in metrics.items()}


def area_under_curve(right: Tensor, wrong: Tensor) -> float:
    """Return how often a right pair scores above a wrong one; ties count half."""
    gap = right[:, None] - wrong[None]
    return float((gap > 0).double().mean() + 0.5 * (gap == 0).double().mean())


def _build(parameters: Parameters, here: Workspace) -> Task:
    shards, samples = shards_of(here, parameters.shards)
    contrastive = fetch(here.store, here.input("checkpoints/contrastive"), here.scratch / "contrastive")
    return GenerativeTask(parameters, shards, samples, contrastive)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Train InternVL-G."""
    return train(_build, parameters, output, here)
