"""The text of conversations as tokens."""

from typing import Any

from tokenizers import Tokenizer

from stages.chat_template import IMG_CONTEXT
from stages.tokenizer import steering_tokens

REMEMBERED = 1 << 16
"""Pieces of conversations whose tokens are remembered."""


class Encoder:
    """Text to tokens; the same few pieces return in every conversation, so they are remembered.

    A picture is thousands of times the same token, which neither is looked for in a text nor remembered. Text around
    it comes out the same alone: the picture's own marks, each a token in every text, stand between them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Remember nothing yet."""
        self._tokenizer = tokenizer
        self.steering = steering_tokens(tokenizer)
        """Special tokens, which nobody may say."""
        self._context = tokenizer.token_to_id(IMG_CONTEXT)
        self._known: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        """Return the tokens of a text, special ones in it whole and none added."""
        if self._context is None:
            return list(self._piece(text))
        first, *others = text.split(IMG_CONTEXT)
        found = list(self._piece(first))
        for piece in others:
            found.append(self._context)
            found += self._piece(piece) if piece else ()
        return found

    def _piece(self, text: str) -> list[int]:
        if text not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[text] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._known[text]

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is remembered out of a copy for a data worker."""
        return {**self.__dict__, "_known": {}}
