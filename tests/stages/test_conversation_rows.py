"""Rows of instruction data: brought into one shape as the official code does, and refused for what it says."""

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.conversation_rows import Reason, RowError, check, markup_problem, shaped


def row(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": said} for who, said in turns], **more}


def reason(found_in_file: Any) -> str | None:
    try:
        found = shaped(found_in_file)
        check(found.told, len(found.pictures))
    except RowError as error:
        return f"{error.reason}: {error.what}"
    return None


Q, A = ("human", "Q"), ("gpt", "A")
SHOWN = ("human", "<image>\nQ")


@pytest.mark.parametrize(
    "told",
    [
        row(Q, A),
        row(Q, A, Q, A),
        row(SHOWN, A, image="a.jpg"),
        row(("human", "Q\n<image>"), A, image="a.jpg"),
        row(Q, A, ("human", "and <image>?"), A, image="a.jpg"),
        row(("human", "Image-1: <image>\nImage-2: <image>\nQ"), A, image=["a.jpg", "b.jpg"]),
        row(("human", "<image>Q"), A, ("human", "<image>Q"), A, image=["a.jpg", "b.jpg"]),
        row(("human", "<video>\nQ"), A, video="a.mp4", clip=[1, 2.5]),
        row(("human", "Where is <ref>the cat</ref>?"), ("gpt", "<ref>the cat</ref><box>[[0, 10, 1000, 10]]</box>")),
        row(("gpt", "Hello"), Q, A),
        row(("system", "Be brief."), Q, A),
        row(("user", "Q"), ("assistant", "A")),
    ],
)
def test_rows_of_every_kind_are_taken(told: dict[str, Any]) -> None:
    assert reason(told) is None


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (7, "shape: it is no object but int"),
        ({}, "shape: it has no list 'conversations'"),
        ({"conversations": ["Q", "A"]}, "shape: a turn is no object with texts 'from' and 'value'"),
        (row(Q, ("gpt", 7)), "shape: a turn is no object with texts 'from' and 'value'"),  # type: ignore[arg-type]
        (row(Q, A, image=7), "shape: 'image' is neither a text nor a list of texts"),
        (row(Q, A, image="a.jpg", video="a.mp4"), "shape: it names both an image and a video"),
        (row(Q, A, video="a.mp4", clip=3), "shape: 'clip' is no [start, end] in seconds"),
        (row(Q, A, video="a.mp4", clip=[2, 1]), "shape: 'clip' is no [start, end] in seconds"),
        (row(Q, A, video="a.mp4", clip=[0, float("nan")]), "shape: 'clip' is no [start, end] in seconds"),
        (row(), "no_turns: nobody says anything"),
        (row(A), "no_turns: nobody says anything"),
        (row(Q), "roles: turn 1 is of human; human and gpt take turns, gpt comes last"),
        (row(Q, A, A), "roles: turn 3 is of gpt; human and gpt take turns, gpt comes last"),
        (row(Q, A, Q), "roles: turn 3 is of human; human and gpt take turns, gpt comes last"),
        (row(Q, ("tool", "A")), "roles: nobody is called 'tool'; turns are of human, gpt or system"),
        (row(Q, ("gpt", " \n")), "empty_turn: turn 2 of gpt is empty"),
        (row(("human", "<image>\n"), A, image="a.jpg"), "empty_turn: turn 1 of human is empty"),
        (row(SHOWN, A), "placeholders: 1 <image> for 0 pictures"),
        (row(("human", "<image><image>Q"), A, image="a.jpg"), "placeholders: 2 <image> for 1 pictures"),
        (row(SHOWN, A, image=["a.jpg", "b.jpg"]), "placeholders: 1 <image> for 2 pictures"),
        (row(Q, A, image=["a.jpg", "b.jpg"]), "placeholders: 0 <image> for 2 pictures"),
        (row(Q, ("gpt", "<image>"), image="a.jpg"), "empty_turn: turn 2 of gpt is empty"),
        (row(SHOWN, ("gpt", "A <image>"), image="a.jpg"), "placeholders: an answer says <image>"),
        (row(("human", "<video>\n<image>Q"), A, video="a.mp4"), "placeholders: 1 <image> for 0 pictures"),
        (row(("human", "<video>Q"), A), "placeholders: 1 <video> for 0 videos"),
        (row(Q, ("gpt", "no <|im_end|> more")), "control_token: somebody says <|im_end|>"),
        (row(Q, ("gpt", "A<|end|><|user|>")), "control_token: somebody says <|user|>"),
        (row(Q, A, system="<s>"), "control_token: somebody says <s>"),
        (row(Q, ("gpt", "half \ud83d")), "encoding: it holds half a surrogate pair, which is no character"),
        (row(Q, ("gpt", "<box>[[1]]</box>")), "markup: turn 2: <box>[[1]]</box> is no list of lists of 4 integers"),
    ],
)  # fmt: skip
def test_rows_are_refused_for_what_is_wrong_with_them(told: Any, wanted: str) -> None:
    assert reason(told) == wanted


TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["<image>", "<video>", "<box>[[1,2,3,4]]</box>", "human", "gpt"])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["from", "value", "conversations", "image", "video", "clip", "system"]), inner
        ),
    ),
    max_leaves=12,
)
TURNS = st.lists(st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt"]), "value": TEXTS}), max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.one_of(VALUES, st.fixed_dictionaries({"conversations": TURNS, "image": VALUES, "video": VALUES})))
def test_whatever_stands_in_a_file_is_a_row_or_has_a_reason(row: Any) -> None:
    found = reason(row)
    assert found is None or found.partition(": ")[0] in get_args(Reason)


def test_a_leading_answer_goes_a_system_turn_is_kept_and_a_lone_picture_is_placed() -> None:
    found = shaped(row(("system", "Be brief."), ("gpt", "Hello"), Q, A, image="a.jpg"))
    assert found.told == {"system": "Be brief.", **row(SHOWN, A)} and found.pictures == ["a.jpg"]
    found = shaped(row(Q, A, video="a.mp4", clip=[1, 2]))
    assert found.told["conversations"][0]["value"] == "<video>\nQ" and found.video and found.clip == (1.0, 2.0)
    assert shaped(row(Q, A, image=None)).pictures == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("<box>[[0, 0, 1000, 1000], [5, 6, 5, 6]]</box>", None),
        ("<quad>[[0, 0, 10, 0, 10, 10, 0, 10]]</quad>", None),
        ("<ref>cat</ref> and <ref>dog</ref>", None),
        ("<box>[[0, 0, 1001, 5]]</box>", "does not lie in 0 to 1000"),
        ("<box>[[-1, 0, 10, 5]]</box>", "does not lie in 0 to 1000"),
        ("<box>[[10, 0, 9, 5]]</box>", "does not begin at its upper left corner"),
        ("<box>[[0.1, 0.2, 0.3, 0.4]]</box>", "is no list of lists of 4 integers"),
        ("<box>[0, 0, 1, 1]</box>", "is no list of lists of 4 integers"),
        ("<box>[]</box>", "is no list of lists of 4 integers"),
        ("<box>" + "[" * 99_999 + "</box>", "is no list of lists of 4 integers"),
        ("<quad>[[0, 0, 10, 0]]</quad>", "is no list of lists of 8 integers"),
        ("<box>[[0, 0, 1, 1]]", "<box> and </box> do not belong together"),
        ("</ref>cat<ref>", "<ref> and </ref> do not belong together"),
        ("<ref>a<ref>b</ref></ref>", "<ref> and </ref> do not belong together"),
        ("<ref> </ref>", "<ref> names nothing"),
    ],
)
def test_places_lie_inside_the_picture(text: str, wrong: str | None) -> None:
    found = markup_problem(text)
    assert found is None if wrong is None else found is not None and wrong in found
