"""The texts that the language stage learns from, and the batches made of them."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.losses import IGNORE
from stages.batches import ShardedSamples
from stages.sources.captions import document
from stages.sources.scenes import Split, sample_scene
from stages.tokenizer import BOS_ID, EOS_ID
from stages.training.task import SampleFacts

Text = list[str]
"""A text in pieces: one or two descriptions, then question and answer in turn."""


def scene_texts(seed: int, split: Split, count: int) -> list[Text]:
    """Return texts about scenes: a description, the same in another language, two questions with answers."""
    found = []
    for index in range(count):
        first, second, asked = document(sample_scene(seed, index, split), index)
        pieces = [f"{first}\n", f"{second}\n"]
        for question in asked:
            pieces += [f"{question.question} ", f"{question.answer}\n"]
        found.append(pieces)
    return found


class LanguageBatches:
    """Texts by number as padded tokens."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        context_length: int,
        texts: Sequence[Text],
        samples: ShardedSamples | None = None,
    ) -> None:
        """Tokenise nothing yet.

        Args:
            tokenizer: Text to tokens.
            context_length: Most tokens of a text; the end is cut off.
            texts: What is learned from.
            samples: Where they come from, number for number; None where they are about drawn scenes.
        """
        self.tokenizer, self.context_length = tokenizer, context_length
        self.texts, self._samples = texts, samples

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Tensor]:
        """Return tokens and labels, shape (rows, longest)."""
        return self.batch([self.texts[row] for row in rows])

    def facts(self, row: int) -> SampleFacts:
        """Return what a text is known by; one about a scene is in two languages, so in none."""
        if self._samples is None:
            return SampleFacts(f"scene-{row}", "drawn", None)
        return SampleFacts.of(self._samples, row)

    def encode(self, text: Text) -> tuple[list[int], list[int]]:
        """Return (input ids, number of the piece that each belongs to), begun and ended like LLaMA's."""
        ids, places = [BOS_ID], [-1]
        for number, piece in enumerate(text):
            found = self.tokenizer.encode(piece, add_special_tokens=False).ids
            ids += found
            places += [number] * len(found)
        return [*ids, EOS_ID][: self.context_length], [*places, len(text)][: self.context_length]

    def batch(self, texts: Sequence[Text]) -> dict[str, Tensor]:
        """Return `input_ids`, `labels` and `places` (the piece of each token), each of shape (texts, longest)."""
        rows = [self.encode(text) for text in texts]
        longest = max(len(ids) for ids, _ in rows)

        def filled(values: list[int], filler: int) -> list[int]:
            return values + [filler] * (longest - len(values))

        # Padding stands at the end, where causal attention never looks back from a real token.
        return {
            "input_ids": torch.tensor([filled(ids, EOS_ID) for ids, _ in rows]),
            "labels": torch.tensor([filled(ids, IGNORE) for ids, _ in rows]),
            "places": torch.tensor([filled(places, -1) for _, places in rows]),
        }
