"""Pieces of a text as its tokens come: whole letters only, and together the whole text."""

import pytest
from training_data import tiny_tokenizer

from stages.streamed_text import TextStream

TOKENIZER = tiny_tokenizer()


def stream() -> TextStream:
    return TextStream(lambda tokens: TOKENIZER.decode(list(tokens), skip_special_tokens=False))


@pytest.mark.parametrize("text", ["two red circles", "  图中有两个物体。 🦊!\n", "naïve — ok", " ", "", "鱟 鱟"])
def test_pieces_add_up_and_no_letter_is_cut(text: str) -> None:
    tokens = TOKENIZER.encode(text, add_special_tokens=False).ids
    words = stream()
    pieces = [words.feed(token) for token in tokens]
    assert "".join([*pieces, words.end()]) == text.strip() == words.text
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


def test_a_letter_comes_with_its_last_token() -> None:
    tokens = TOKENIZER.encode("鱟", add_special_tokens=False).ids
    assert len(tokens) == 3, "this letter is in no merge"
    words = stream()
    assert [words.feed(token) for token in tokens] == ["", "", "鱟"]


def test_half_a_letter_at_the_end_is_shown_for_what_it_is() -> None:
    words = stream()
    for token in TOKENIZER.encode("a鱟", add_special_tokens=False).ids[:-1]:
        words.feed(token)
    assert words.text == "a"
    assert words.end() == "\N{REPLACEMENT CHARACTER}"
