"""Take a pre-trained language model, or train a small text-only decoder where none is given.

The paper starts from a pre-trained multilingual LLaMA-7B (arXiv:2312.14238, section 3.2); one that is
given is taken over (`stages.pretrained_language`). At the size of a laptop there is none, so this stage
makes one: it learns to describe, to translate a description and to answer questions about it, from text
alone.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from models.config import TextConfig
from models.language_objective import LanguageObjective
from models.losses import IGNORE
from stages.batches import open_samples
from stages.held_out import SHARE, Share, by_shard, check_road, divide
from stages.language_data import ROLES, LanguageBatches, Origin, Text, caption_texts, fingerprints, scene_texts
from stages.manifest import Manifest, ManifestError
from stages.pretrained_language import look, take
from stages.prompts import all_prompts
from stages.tokenizer import train_tokenizer
from stages.train_loop import train
from stages.training.order import Source
from stages.training.schedule import Schedule
from stages.training.task import Finished, Task, parameter_groups
from stages.workspace import Output, Workspace

VERSION = 3
TOKENIZER_TEXTS = 4000


class Parameters(BaseModel):
    """Size, text and schedule; the defaults are those of the tiny recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    documents: int = Field(
        default=16000, ge=0, description="Texts about drawn scenes; 0 learns from the captions of shards/clean."
    )
    pretrained: str | None = Field(
        default=None,
        description="A LLaMA, Qwen2, InternLM2 or Phi-3 to take instead of training one: a folder that all machines "
        "see, with safetensors, config.json and tokenizer.json, or a name on the Hugging Face hub.",
    )
    pretrained_shape: TextConfig | None = Field(
        default=None,
        description="Its shape, which a plan counts by; read from the folder at start where it is there.",
    )
    pretrained_digest: str | None = Field(
        default=None, description="Hash of what the folder says of itself; filled in at start."
    )
    world_seed: int = Field(default=0, description="Seed of the drawn world.")
    held_out_share: Share = SHARE
    held_out: int = Field(
        default=200, ge=1, description="Most of the texts kept aside that are measured on at the end."
    )
    vocab_size: int = Field(default=700, ge=300, description="Most entries of the tokenizer.")
    hidden_size: int = Field(default=96, ge=8)
    intermediate_size: int = Field(default=256, ge=8)
    num_hidden_layers: int = Field(default=4, ge=1)
    num_attention_heads: int = Field(default=3, ge=1)
    context_length: int = Field(default=128, ge=8, description="Most tokens of a text; the end is cut off.")
    schedule: Schedule = Schedule(global_batch_size=64, steps=450, learning_rate=3e-3, warmup_steps=40)


def pin(parameters: Parameters) -> Parameters:
    """Return the parameters with shape and hash of the pre-trained model, where it is on this machine already.

    Raises:
        ManifestError: It is, and is none that can be taken.
    """
    if parameters.pretrained is None or not Path(parameters.pretrained).is_dir():
        return parameters
    found = look(Path(parameters.pretrained))
    return parameters.model_copy(update={"pretrained_shape": found.config, "pretrained_digest": found.digest})


def _texts(parameters: Parameters, here: Workspace) -> tuple[list[Text], list[Text], Origin | None]:
    """Return (texts to train on, texts kept aside, the samples that the first are of)."""
    share, most = parameters.held_out_share, parameters.held_out
    if parameters.documents:
        texts = scene_texts(parameters.world_seed, parameters.documents)
        rows, origin = divide(fingerprints(texts), share, most, "language.documents"), None
    else:
        samples = open_samples(here, here.input("shards/clean"))
        texts = caption_texts(samples)
        rows = divide(samples.fingerprints, share, most, samples.name)
        origin = Origin(samples, rows.taught)
    return [texts[row] for row in rows.taught], [texts[row] for row in rows.aside], origin


class LanguageTask:
    """Next-token prediction on short texts."""

    def __init__(
        self,
        parameters: Parameters,
        texts: list[Text],
        held_out: list[Text],
        origin: Origin | None = None,
    ) -> None:
        """Train the tokenizer and allocate the decoder; `origin` tells of the samples that the texts are of.

        Raises:
            ManifestError: No text kept aside has room for a description.
        """
        self.parameters = parameters
        # Learned from the first texts alone, more change nothing but the time it takes; and from what
        # the later stages say again and again, which would else be spelt letter by letter.
        pieces = [piece.text for text in texts[:TOKENIZER_TEXTS] for piece in text]
        self.tokenizer: Tokenizer = train_tokenizer(pieces + all_prompts() * len(pieces), parameters.vocab_size)
        self.config = TextConfig(
            vocab_size=self.tokenizer.get_vocab_size(),
            hidden_size=parameters.hidden_size,
            intermediate_size=parameters.intermediate_size,
            num_hidden_layers=parameters.num_hidden_layers,
            num_attention_heads=parameters.num_attention_heads,
        )
        self.module = LanguageObjective(self.config)
        self.batches = LanguageBatches(self.tokenizer, parameters.context_length, texts, origin)
        self.held_out = held_out
        self.samples: int | Sequence[Source] = len(texts)
        if origin is not None:
            self.samples = [Source(origin.samples.name, by_shard(origin.rows, origin.samples.sizes))]
        if held_out and not any(self._described(text) for text in held_out):
            raise ManifestError(
                f"language.context_length {parameters.context_length} ends before the description in each of the "
                f"{len(held_out)} texts kept aside, so nothing could be measured; raise it, or language.held_out"
            )

    def _described(self, text: Text) -> bool:
        """Return whether a text has room for a token of its description."""
        _, places = self.batches.encode(text)
        return any(text[place].role == "description" for place in places if 0 <= place < len(text))

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return all parameters."""
        return parameter_groups(self.module.named_parameters(), weight_decay)

    def finish(self) -> Finished:
        """Measure on the texts kept aside and return weights, shape and tokenizer."""
        files = {
            "config.json": json.dumps({"text": self.config.model_dump()}, indent=2, sort_keys=True).encode(),
            "tokenizer.json": self.tokenizer.to_str(pretty=True).encode(),
        }
        return Finished(self.module.model.state_dict(), files, self._measure())

    def _measure(self) -> dict[str, float]:
        """Return the loss of descriptions, and how often every token of an answer comes first.

        What `context_length` cuts off is not asked: an answer that is not wholly there, a role without a token.
        """
        device = next(self.module.parameters()).device
        sums: dict[str, float] = dict.fromkeys(ROLES, 0.0)
        counts = Counter[str]()
        right = asked = 0
        answers = Counter[str]()
        for start in range(0, len(self.held_out), 64):
            texts = self.held_out[start : start + 64]
            batch = {name: value.to(device) for name, value in self.batches.batch(texts).items()}
            logits = self.module.model(batch["input_ids"])[:, :-1]
            labels, places, roles = (batch[name][:, 1:] for name in ("labels", "places", "roles"))
            losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
            for number, role in enumerate(ROLES):
                sums[role] += float(losses[roles == number].sum())
                counts[role] += int((roles == number).sum())
            hit = logits.argmax(dim=-1) == labels
            for row, text in enumerate(texts):
                for number, piece in enumerate(text):
                    # A whole piece is followed by the next one's tokens, or by the end.
                    if piece.role == "answer" and bool((places[row] > number).any()):
                        asked += 1
                        answers[piece.text] += 1
                        right += bool(hit[row][places[row] == number].all())
        mean = {role: sums[role] / counts[role] for role in ROLES if counts[role]}
        found = {"held_out": float(len(self.held_out))}
        for role, name in (("description", "description_loss"), ("retold", "second_description_loss")):
            if role in mean:
                found[name] = mean[role]
        if asked:
            found["text_questions_right"] = right / asked
            found["text_questions_majority"] = max(answers.values()) / asked
        return {name: round(value, 4) for name, value in found.items()}


def build(parameters: Parameters, here: Workspace) -> Task:
    """Return what is trained, and on what."""
    check_road(parameters.held_out_share, here.inputs.values())
    return LanguageTask(parameters, *_texts(parameters, here))


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Train the decoder, or take the one that there is."""
    if parameters.pretrained is not None:
        return take(parameters.pretrained, parameters.pretrained_shape, output, here)
    return train(build, parameters, output, here)
