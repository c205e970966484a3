"""What is learned of a conversation, held against the rule of the official code worked out in another way.

There the whole text is turned into tokens at once, and those of answers and of the marks that end them are learned.
Here a tokenizer whose tokens tell their own characters says by their places in the rendered text which these are.
"""

import re
from collections.abc import Sequence

import pytest
from training_data import tiny_tokenizer

from stages.chat_assembly import grow_tokenizer
from stages.chat_template import IGNORE, IMG_CONTEXT, TEMPLATES, encode_conversation, place_images, render

SYSTEM = "You are a careful assistant."
TALKS: dict[str, tuple[list[str], list[str], list[int]]] = {
    "one turn": (["What colour is the circle?"], ["Red."], []),
    "several turns": (["Q 1", "Say it again: Red.", "And now?"], ["Red.", "Red.", "Nothing more."], []),
    "a picture": (["<image>\nWhat is there?", "And left?"], ["A red circle.", "A blue square."], [3]),
    "several pictures": (["<image>\nor <image>\nWhich?", "<image>\nSo?"], ["The first.", "Yes."], [2, 5, 1]),
}


def answer_spans(name: str, text: str, answers: Sequence[str]) -> list[tuple[int, int]]:
    """Return where answers and their ends stand in a rendered text: behind each assistant's mark."""
    template, spans, place = TEMPLATES[name], [], 0
    for answer in answers:
        # Templates that end a header with ": " count its space as the answer's.
        header = template.assistant + template.opener.rstrip()
        begin = text.index(header, place) + len(header)
        place = text.index(template.end, begin + len(answer)) + len(template.end)
        spans.append((begin, place))
    return spans


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_labels_are_the_tokens_of_answers_and_their_ends(name: str, talk: str) -> None:
    questions, answers, tokens = TALKS[talk]
    tokenizer = tiny_tokenizer()
    grow_tokenizer(tokenizer, name)

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    ids, labels = encode_conversation(encode, name, SYSTEM, questions, answers, tokens_per_image=tokens)
    text = render(name, SYSTEM, place_images(questions, tokens), answers)
    spans = answer_spans(name, text, answers)
    at = [0]
    # A byte-level token is as long as what it is decoded to; a special one is its own text.
    pieces = [tokenizer.decode([token], skip_special_tokens=False) for token in ids]
    for piece in pieces:
        at.append(at[-1] + len(piece))
    assert "".join(pieces) == text
    expected = [
        token if any(begin <= start < end for begin, end in spans) else IGNORE
        for token, start in zip(ids, at, strict=False)
    ]
    assert labels == expected
    assert ids.count(tokenizer.token_to_id(IMG_CONTEXT)) == sum(tokens)
    said = tokenizer.decode([label for label in labels if label != IGNORE], skip_special_tokens=False)
    end = re.escape(TEMPLATES[name].end)
    assert [each.strip() for each in re.split(end, said)[:-1]] == answers


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_cut_takes_the_same_tokens_from_the_right(name: str) -> None:
    questions, answers, _ = TALKS["several turns"]
    tokenizer = tiny_tokenizer()
    grow_tokenizer(tokenizer, name)

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    ids, labels = encode_conversation(encode, name, SYSTEM, questions, answers)
    first = next(place for place, label in enumerate(labels) if label != IGNORE)
    for length in (len(ids) - 1, (first + len(ids)) // 2, first + 1):
        cut = encode_conversation(encode, name, SYSTEM, questions, answers, context_length=length)
        assert cut == (ids[:length], labels[:length])
