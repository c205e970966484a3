"""The conversations of shards: what the instruct stage trains on and evaluations ask about."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from tokenizers import Tokenizer

from infra.once import first_alone
from models.config import ChatConfig
from models.preprocess import encode_again
from stages.batches import ShardedSamples, open_samples
from stages.chat_batches import Example, tiles_of
from stages.chat_encoder import Encoder
from stages.chat_lengths import Lengths, key_of, recalled, write_down
from stages.chat_rows import Said, said
from stages.chat_template import IGNORE, TemplateError, encode_conversation
from stages.held_out import Divided, by_shard, divide
from stages.manifest import Manifest, ManifestError
from stages.pictures import PictureError, picture_of
from stages.training.task import SampleFacts
from stages.workspace import Workspace


class ConversationSize(NamedTuple):
    """How large a conversation is: tokens, those of pictures among them; tiles; and places that are learned."""

    tokens: int
    tiles: int
    learned: int


def open_conversations(here: Workspace, data: Manifest, tokenizer: Tokenizer, config: ChatConfig) -> "Conversations":
    """Return the conversations of an artifact, their lengths as written down or, the first time, found out and kept.

    Raises:
        ManifestError: As `open_samples`.
    """
    samples, key = open_samples(here, data), key_of(data, tokenizer, config)
    if samples.left_out:  # then the others have other numbers: nothing is written down of that
        return Conversations(samples, tokenizer, config)
    if (known := recalled(here, key, len(samples))) is not None:
        return Conversations(samples, tokenizer, config, known)
    with first_alone(key):
        known = recalled(here, key, len(samples))  # which the first has written down, unless it failed
        found = Conversations(samples, tokenizer, config, known)
        if known is None:
            write_down(here, key, found.lengths)
    return found


class Conversations:
    """The conversations of shards that can be learned from; why others cannot is counted in `left_out`.

    A row may show no picture, one, several, or a video.
    """

    def __init__(
        self, samples: ShardedSamples, tokenizer: Tokenizer, config: ChatConfig, lengths: Lengths | None = None
    ) -> None:
        """Take lengths that were found before, or render everything once; rows are read when they are asked for."""
        self.config, self.name = config, samples.name
        self._samples, self._encode = samples, Encoder(tokenizer)
        self._bos = config.text.bos_token_id
        self.lengths = lengths or self._measured()
        """Of all samples, of those left out too."""
        self.left_out = Counter(reason for reason in self.lengths.left_out if reason is not None)
        self._numbers = [number for number, reason in enumerate(self.lengths.left_out) if reason is None]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._numbers)

    def _measured(self) -> Lengths:
        sizes: list[tuple[int, int, int]] = []
        left_out: list[str | None] = []
        for number in range(len(self._samples)):
            try:
                told = self._said(number)
                tokens, labels = self._encoded(told, told.tiles)
            except TemplateError as error:
                sizes.append((0, 0, 0))
                left_out.append(str(error))
                continue
            sizes.append((len(tokens), sum(told.tiles), len(labels) - labels.count(IGNORE)))
            left_out.append(None)
        return Lengths.of(sizes, left_out)

    def _row(self, sample: int) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(self._samples.read(sample, "json"))
        return row

    def _said(self, sample: int) -> Said:
        return said(self._row(sample), self.config)

    def _encoded(self, told: Said, tiles: Sequence[int]) -> tuple[list[int], list[int]]:
        return encode_conversation(
            self._encode,
            self.config.template,
            told.system_message,
            told.questions,
            told.answers,
            tokens_per_image=[count * self.config.num_image_token for count in tiles],
            context_length=self.config.context_length,
            bos_token_id=self._bos,
            steering=self._encode.steering,
        )

    def pictures(self, number: int) -> list[Image.Image]:
        """Return the pictures of a conversation, or the frames of its video, in order; none of text alone.

        Raises:
            ManifestError: They are damaged.
        """
        sample = self._numbers[number]
        try:
            return [picture_of(data) for data in self._samples.pictures(sample)]
        except PictureError as error:
            raise ManifestError(
                f"a picture of sample {self._samples.keys[sample]} of {self.name} cannot be decoded ({error}); "
                "make the conversations again"
            ) from error

    def size(self, number: int) -> ConversationSize:
        """Return how large a conversation is; nothing is read for it."""
        sample, lengths = self._numbers[number], self.lengths
        return ConversationSize(int(lengths.tokens[sample]), int(lengths.tiles[sample]), int(lengths.learned[sample]))

    def facts(self, number: int) -> SampleFacts:
        """Return what a conversation is known by."""
        return SampleFacts.of(self._samples, self._numbers[number])

    def told_by(self, number: int) -> tuple[int, int]:
        """Return the lowest and the highest fingerprint of a conversation's pictures."""
        return self._samples.told_by(self._numbers[number])

    def turns(self, number: int) -> list[str]:
        """Return what is said in a conversation, in turn."""
        return [turn["value"] for turn in self._row(self._numbers[number])["conversations"]]

    def divided(self, share: float, held_out: int) -> Divided:
        """Return what is trained on and what is measured, which may be nothing, by the rule that all stages follow.

        Raises:
            ManifestError: Nothing is left to train on.
        """
        return divide(self._samples.fingerprints[self._numbers], share, held_out, self.told, needed=False)

    @property
    def told(self) -> str:
        """The artifact, and what of it cannot be learned from."""
        return self.name + (f" (left out: {dict(self.left_out)})" if self.left_out else "")

    def in_shards(self, rows: Sequence[int]) -> tuple[int, ...]:
        """Return how many of some conversations, in rising order, lie in each shard that has some."""
        return by_shard([self._numbers[row] for row in rows], self._samples.sizes)

    def example(
        self, number: int, shown: Sequence[Image.Image] | None = None, jpeg_quality: int | None = None
    ) -> Example:
        """Return a conversation with its pictures, or with others in their sizes.

        Args:
            number: Of the conversation.
            shown: Pictures in the places of its own, in turn; white ones where the list is empty.
            jpeg_quality: Show pictures as they look after that, where their source asks for it (`data_augment`).
        """
        row = self._row(self._numbers[number])
        told, images = said(row, self.config), self.pictures(number)
        if shown is not None:
            images = [_instead(image, shown, at) for at, image in enumerate(images)]
        elif jpeg_quality is not None and row.get("data_augment"):
            images = [encode_again(image, jpeg_quality) for image in images]
        tiles = [tiles_of(image, self.config, told.most_tiles) for image in images]
        input_ids, labels = self._encoded(told, [len(each) for each in tiles])
        return Example(input_ids, labels, torch.cat(tiles) if tiles else None)


def _instead(image: Image.Image, shown: Sequence[Image.Image], at: int) -> Image.Image:
    """Return another picture in the size of one that is not shown."""
    if not shown:
        return Image.new("RGB", image.size, (255, 255, 255))
    return shown[at % len(shown)].resize(image.size)
