"""The texts that the language stage learns from, and the batches made of them."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.losses import IGNORE
from stages.batches import ShardedSamples
from stages.held_out import Fingerprints, Rows, fingerprints_of_texts
from stages.prompts import caption_prompt
from stages.sources.questions import document
from stages.sources.scenes import FIRST_OF_TEXTS, Split, sample_scene
from stages.tokenizer import BOS_ID, EOS_ID
from stages.training.task import SampleFacts

Role = Literal["description", "prompt", "retold", "question", "answer"]
ROLES: tuple[Role, ...] = get_args(Role)


class Piece(NamedTuple):
    """A part of a text that is told apart when texts are measured, and never shares a token with others."""

    role: Role
    text: str


Text = list[Piece]


class Origin(NamedTuple):
    """Which samples texts are of: text number n is of sample `rows[n]`."""

    samples: ShardedSamples
    rows: Rows


def fingerprints(texts: Sequence[Text]) -> Fingerprints:
    """Return what says of each text about a scene, which no picture belongs to, whether it is kept aside."""
    return fingerprints_of_texts("".join(piece.text for piece in text) for text in texts)


def scene_texts(seed: int, count: int) -> list[Text]:
    """Return texts about scenes: a description, its prompt and the same in another language, two questions answered.

    The prompts are those of the generative stage: its language model is frozen there, and can only
    follow a prompt that it has met before, as LLaMA knows what "German caption:" asks for.
    """
    found = []
    for index in range(count):
        told = document(sample_scene(seed, FIRST_OF_TEXTS + index, Split.TRAIN), index)
        pieces = [
            Piece("description", f"{told.described}\n"),
            Piece("prompt", caption_prompt(told.language)),
            Piece("retold", f"{told.retold}\n"),
        ]
        for question in told.asked:
            pieces += [Piece("question", f"{question.question} "), Piece("answer", f"{question.answer}\n")]
        found.append(pieces)
    return found


def caption_texts(samples: ShardedSamples) -> list[Text]:
    """Return the captions of shards, every second one after its prompt."""
    found: list[Text] = []
    for number in range(len(samples)):
        prompt = Piece("prompt", caption_prompt(SampleFacts.of(samples, number).language))
        caption = Piece("description", samples.read(number, "txt").decode())
        found.append([prompt, caption] if number % 2 else [caption])
    return found


class LanguageBatches:
    """Texts by number as padded tokens."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        context_length: int,
        texts: Sequence[Text],
        origin: Origin | None = None,
    ) -> None:
        """Tokenise nothing yet.

        Args:
            tokenizer: Text to tokens.
            context_length: Most tokens of a text; the end is cut off.
            texts: What is learned from.
            origin: The samples that they are of; None where they are about drawn scenes.
        """
        self.tokenizer, self.context_length = tokenizer, context_length
        self.texts, self._origin = texts, origin

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Tensor]:
        """Return tokens and labels, shape (rows, longest)."""
        return self.batch([self.texts[row] for row in rows])

    def facts(self, row: int) -> SampleFacts:
        """Return what a text is known by; one about a scene is in two languages, so in none."""
        if self._origin is None:
            return SampleFacts(f"text-{row}", "drawn", None)
        return SampleFacts.of(self._origin.samples, int(self._origin.rows[row]))

    def encode(self, text: Text) -> tuple[list[int], list[int]]:
        """Return (input ids, number of the piece that each belongs to), begun and ended like LLaMA's."""
        ids, places = [BOS_ID], [-1]
        for number, piece in enumerate(text):
            found = self.tokenizer.encode(piece.text, add_special_tokens=False).ids
            ids += found
            places += [number] * len(found)
        return [*ids, EOS_ID][: self.context_length], [*places, len(text)][: self.context_length]

    def batch(self, texts: Sequence[Text]) -> dict[str, Tensor]:
        """Return tokens of shape (texts, longest).

        Returns:
            `input_ids`, `labels`, `places`, the number of each token's piece, and `roles`, what that piece
            is by its number in `ROLES`; -1 where it is none.
        """
        rows = [self.encode(text) for text in texts]
        roles = [
            [ROLES.index(text[place].role) if 0 <= place < len(text) else -1 for place in places]
            for text, (_, places) in zip(texts, rows, strict=True)
        ]
        longest = max(len(ids) for ids, _ in rows)

        def filled(values: list[int], filler: int) -> list[int]:
            return values + [filler] * (longest - len(values))

        # Padding stands at the end, where causal attention never looks back from a real token.
        return {
            "input_ids": torch.tensor([filled(ids, EOS_ID) for ids, _ in rows]),
            "labels": torch.tensor([filled(ids, IGNORE) for ids, _ in rows]),
            "places": torch.tensor([filled(places, -1) for _, places in rows]),
            "roles": torch.tensor([filled(each, -1) for each in roles]),
        }
