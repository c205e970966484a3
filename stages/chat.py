"""Ask a chat model about pictures: many questions at once, or one whose answer comes word by word."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from models.chat import GREEDY, InternVLChat
from models.sampling import Sampling
from stages.chat_batches import Example, collate, tiles_of
from stages.chat_encoder import Encoder
from stages.chat_loading import Told, load_chat, silent
from stages.chat_template import TemplateError, encode_conversation, template_named, without_control_tokens
from stages.streamed_text import TextStream

Turns = Sequence[tuple[str, str]]
STOP_TOKENS = ("<|im_end|>", "<|end|>", "</s>", "<|endoftext|>")
MAX_NEW_TOKENS = 512
"""Most tokens of an answer that is talked, unless somebody says otherwise."""


class Shown(NamedTuple):
    """A picture, and into how many tiles it is cut at most; the model's own number when left out."""

    image: Image.Image
    max_tiles: int | None = None


class Ask(NamedTuple):
    """One question, and what was said before as (question, answer) pairs.

    Pictures stand for the `<image>` marks of all questions in their order; a single one needs no mark.
    """

    question: str
    shown: Sequence[Shown] = ()
    history: Turns = ()


class Answer:
    """An answer as it comes: iterating yields pieces of its text, which add up to `text`.

    Attributes:
        text: What was said so far.
        prompt_tokens: Tokens of the question, pictures and history included.
        tokens: Tokens chosen so far, the one that ends the answer included.
        reading_seconds: Until the first token was chosen.
        writing_seconds: From then on.
    """

    def __init__(self, tokens: Iterator[Tensor], prompt_tokens: int, stop: Sequence[int], text: TextStream) -> None:
        """Choose nothing yet."""
        self._chosen, self._stop, self._stream = tokens, stop, text
        self.prompt_tokens, self.tokens = prompt_tokens, 0
        self.reading_seconds = self.writing_seconds = 0.0

    @property
    def text(self) -> str:
        """What was said so far."""
        return self._stream.text

    def __iter__(self) -> Iterator[str]:
        """Go through the rest of the answer."""
        begun = time.perf_counter()
        for chosen in self._chosen:
            now = time.perf_counter()
            self.tokens += 1
            if self.tokens == 1:
                self.reading_seconds, begun = now - begun, now
            self.writing_seconds = now - begun
            token = int(chosen)
            if token in self._stop:
                break
            if piece := self._stream.feed(token):
                yield piece
        if piece := self._stream.end():
            yield piece


class ChatSession:
    """A chat model in memory, with its tokenizer."""

    def __init__(self, model: InternVLChat, tokenizer: Tokenizer) -> None:
        """Put the model into evaluation mode, on the GPU where there is one."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.tokenizer, self.config = model.eval().to(self.device), tokenizer, model.config
        self._encode = Encoder(tokenizer)
        end = template_named(self.config.template).end
        found = [tokenizer.token_to_id(token) for token in dict.fromkeys((end, *STOP_TOKENS))]
        self._stop = [token for token in found if token is not None]

    @classmethod
    def from_folder(cls, folder: Path, told: Told = silent) -> "ChatSession":
        """Load the chat model of a folder; see `load_chat` for what is refused."""
        return cls(*load_chat(folder, told))

    def ask(
        self, question: str, image: Image.Image | None = None, history: Turns = (), max_new_tokens: int = 64
    ) -> str:
        """Return the answer to a question about one picture or none; see `ask_many`."""
        shown = [] if image is None else [Shown(image)]
        return self.ask_many([Ask(question, shown, history)], max_new_tokens=max_new_tokens)[0]

    def ask_many(
        self, asks: Sequence[Ask], batch_size: int = 64, max_new_tokens: int = 64, min_new_tokens: int = 0
    ) -> list[str]:
        """Return the answers to many questions, in order; each is the model's likeliest, token by token.

        Raises:
            TemplateError: Somebody says a token that steers the model, or a conversation leaves no
                room for an answer.
        """
        answers: list[str] = []
        for start in range(0, len(asks), batch_size):
            examples = [self._example(ask) for ask in asks[start : start + batch_size]]
            for example in examples:
                self._room(example, max_new_tokens)
            chosen = self.model.generate(
                *self._prompt(examples),
                max_new_tokens=max_new_tokens,
                stop=self._stop,
                sampling=GREEDY,
                min_new_tokens=min_new_tokens,
            )
            answers += [self._text(row) for row in chosen.tolist()]
        return answers

    def answer(self, ask: Ask, max_new_tokens: int = MAX_NEW_TOKENS, sampling: Sampling = GREEDY) -> Answer:
        """Return the answer to one question, to be iterated over; shorter where there is less room for it.

        Raises:
            TemplateError: Somebody says a token that steers the model, pictures and marks differ in number,
                or there is no room left for an answer.
        """
        example = self._example(ask)
        room = min(max_new_tokens, self._room(example, 1))
        tokens = self.model.stream(*self._prompt([example]), max_new_tokens=room, stop=self._stop, sampling=sampling)
        return Answer(tokens, len(example.input_ids), self._stop, TextStream(self._decode))

    def _prompt(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor | None]:
        batch = collate(examples, self.config.eos_token_id, left=True)
        pixels = batch.get("pixel_values")
        dtype = self.model.vision_model.embeddings.class_embedding.dtype
        return (
            batch["input_ids"].to(self.device),
            batch["attention_mask"].to(self.device),
            None if pixels is None else pixels.to(self.device, dtype),
        )

    def sayable(self, text: str) -> str:
        """Return what the model said without the marks that steer it, so that it may stand in a conversation."""
        return without_control_tokens(text, self._encode.steering)

    def _example(self, ask: Ask) -> Example:
        questions = [*(question for question, _ in ask.history), ask.question]
        answers = [answer for _, answer in ask.history]
        pixels = [tiles_of(each.image, self.config, each.max_tiles) for each in ask.shown]
        ids, labels = encode_conversation(
            self._encode,
            self.config.template,
            self.config.system_message,
            questions,
            answers,
            tokens_per_image=[len(each) * self.config.num_image_token for each in pixels],
            bos_token_id=self.config.text.bos_token_id,
            steering=self._encode.steering,
        )
        return Example(ids, labels, torch.cat(pixels) if pixels else None)

    def _room(self, example: Example, wanted: int) -> int:
        """Return how many tokens an answer may have.

        Raises:
            TemplateError: They are fewer than wanted.
        """
        longest = self.config.text.max_position_embeddings
        if (room := longest - len(example.input_ids)) < wanted:
            raise TemplateError(
                f"a conversation of {len(example.input_ids)} tokens leaves no room for an answer, at most "
                f"{longest - wanted} do; ask with a shorter history, or fewer pictures or tiles"
            )
        return room

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False))

    def _text(self, tokens: list[int]) -> str:
        end = next((place for place, token in enumerate(tokens) if token in self._stop), len(tokens))
        return self._decode(tokens[:end]).strip()
