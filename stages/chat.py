"""Talk to a chat model about a picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer

from infra.storage import Store
from models.chat import InternVLChat
from models.config import ChatConfig
from models.renaming import fill
from stages.chat_data import Encoder, Example, collate, tiles_of
from stages.chat_template import IMAGE, TemplateError, control_token_in, encode_conversation, template_named
from stages.checkpoints import fetch
from stages.manifest import Manifest, ManifestError
from stages.weight_files import open_weights

Turns = Sequence[tuple[str, str]]
STOP_TOKENS = ("<|im_end|>", "<|end|>", "</s>", "<|endoftext|>")


@dataclass(frozen=True)
class Ask:
    """One question, the picture it is about, and what was said before as (question, answer) pairs."""

    question: str
    image: Image.Image | None = None
    history: Turns = ()


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
    def load(cls, store: Store, manifest: Manifest, folder: Path) -> "ChatSession":
        """Fetch a checkpoint of the instruct stage into a folder and load it.

        Raises:
            ManifestError: It is no chat model.
        """
        return cls.from_folder(fetch(store, manifest, folder))

    @classmethod
    def from_folder(cls, folder: Path) -> "ChatSession":
        """Load `config.json`, weights and `tokenizer.json` of a folder.

        Raises:
            ManifestError: It holds no chat model.
        """
        given = json.loads((folder / "config.json").read_text())
        if "image_context_token_id" not in given:
            raise ManifestError(f"{folder} holds no chat model: talk to one that stage instruct made")
        model = InternVLChat(ChatConfig.model_validate(given))
        fill(model, open_weights(folder), "the chat model")
        return cls(model, Tokenizer.from_file(str(folder / "tokenizer.json")))

    def ask(
        self, question: str, image: Image.Image | None = None, history: Turns = (), max_new_tokens: int = 64
    ) -> str:
        """Return the answer to a question; see `ask_many`."""
        return self.ask_many([Ask(question, image, history)], max_new_tokens=max_new_tokens)[0]

    def ask_many(self, asks: Sequence[Ask], batch_size: int = 64, max_new_tokens: int = 64) -> list[str]:
        """Return the answers to many questions, in order; each is the model's likeliest, token by token.

        Raises:
            TemplateError: Somebody says a token that steers the model, or a conversation leaves no
                room for an answer.
        """
        answers: list[str] = []
        for start in range(0, len(asks), batch_size):
            examples = [self._example(ask, max_new_tokens) for ask in asks[start : start + batch_size]]
            batch = collate(examples, self.config.eos_token_id, left=True)
            chosen = self.model.generate(
                batch["input_ids"].to(self.device),
                batch["attention_mask"].to(self.device),
                batch["pixel_values"].to(self.device) if "pixel_values" in batch else None,
                max_new_tokens=max_new_tokens,
                stop=self._stop,
            )
            answers += [self._text(row) for row in chosen.tolist()]
        return answers

    def _example(self, ask: Ask, max_new_tokens: int) -> Example:
        questions = [*(question for question, _ in ask.history), ask.question]
        answers = [answer for _, answer in ask.history]
        for text in (*questions, *answers):
            if token := control_token_in(text.replace(IMAGE, "")):
                raise TemplateError(f"{token} cannot be said in a conversation; leave it out")
        pixels = tiles_of(ask.image, self.config) if ask.image is not None else None
        ids, labels = encode_conversation(
            self._encode,
            self.config.template,
            self.config.system_message,
            questions,
            answers,
            tokens_per_image=[] if pixels is None else [len(pixels) * self.config.num_image_token],
            bos_token_id=self.tokenizer.token_to_id("<s>"),
        )
        longest = self.config.text.max_position_embeddings - max_new_tokens
        if len(ids) > longest:
            raise TemplateError(
                f"a conversation of {len(ids)} tokens leaves no room for an answer, at most {longest} do; "
                "ask with a shorter history or fewer tiles"
            )
        return Example(ids, labels, pixels)

    def _text(self, tokens: list[int]) -> str:
        end = next((place for place, token in enumerate(tokens) if token in self._stop), len(tokens))
        return str(self.tokenizer.decode(tokens[:end], skip_special_tokens=False)).strip()
