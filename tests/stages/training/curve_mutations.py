"""Small mistakes in what a stage learns from, each of which a golden curve must notice."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from models.losses import IGNORE
from stages.generative_batches import GenerativeBatches
from stages.instruct_data import InstructBatches
from stages.language_data import LanguageBatches
from stages.pair_batches import PairBatches

Batch = dict[str, Any]


def end_unlearned(batch: Batch) -> Batch:
    """Leave out the last token of the longest texts."""
    labels: Tensor = batch["labels"].clone()
    labels[:, -1] = IGNORE
    return {**batch, "labels": labels}


def questions_learned(batch: Batch) -> Batch:
    """Learn one more token of each row than answers have."""
    labels: Tensor = batch["labels"].clone()
    labels[:, 1] = batch["input_ids"][:, 1]
    return {**batch, "labels": labels}


def last_word_unseen(batch: Batch) -> Batch:
    """Hide the last token of each caption that is contrasted."""
    mask: Tensor = batch["attention_mask"].clone()
    mask[range(len(mask)), mask.sum(dim=1) - 1] = 0
    return {**batch, "attention_mask": mask}


def prompt_learned(batch: Batch) -> Batch:
    """Learn the first token of the prompt too."""
    labels: Tensor = batch["prompted_labels"].clone()
    labels[:, 1] = batch["prompted_input_ids"][:, 1]
    return {**batch, "prompted_labels": labels}


MUTATIONS: dict[str, tuple[type, Callable[[Batch], Batch]]] = {
    "end_unlearned": (LanguageBatches, end_unlearned),
    "last_word_unseen": (PairBatches, last_word_unseen),
    "prompt_learned": (GenerativeBatches, prompt_learned),
    "questions_learned": (InstructBatches, questions_learned),
}


def mutate(name: str) -> None:
    """Let batches of this process be made with a mistake; without a name, as they should be."""
    if not name:
        return
    maker, mistake = MUTATIONS[name]
    made = maker.__call__

    def wrong(self: Any, rows: Sequence[int], step: int) -> Batch:
        return mistake(made(self, rows, step))

    maker.__call__ = wrong  # type: ignore[operator]
