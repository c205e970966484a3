"""Tokens to text as they come: a letter may need several tokens, and is said when it is whole."""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
_HALF = "\N{REPLACEMENT CHARACTER}"
"""What decoders write for the beginning of a letter."""


class TextStream:
    """The text of tokens so far, without space around it.

    Space and beginnings of letters are held back until it is known what follows: pieces add up to
    the stripped text of all tokens.
    """

    def __init__(self, decode: Decode) -> None:
        """Begin without tokens."""
        self._decode = decode
        self._tokens: list[int] = []
        self.text = ""

    def feed(self, token: int) -> str:
        """Return what can be said after one more token; often a word, sometimes nothing."""
        self._tokens.append(token)
        return self._say(self._decode(self._tokens).rstrip(_HALF))

    def end(self) -> str:
        """Return what was held back, half letters too."""
        return self._say(self._decode(self._tokens))

    def _say(self, text: str) -> str:
        whole = text.strip()
        piece = whole[len(self.text) :]
        self.text += piece
        return piece
