"""Every vectorised measure equals a few plain lines of Python, on captions of any kind."""

import itertools
import re
import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.text import Captions, characters, completeness, language, letter_pairs, repetition
from filters.text.code_points import SCRIPTS, WITHOUT_SPACES, latin_letters
from filters.text.function_words import FUNCTION_WORDS, THINGS
from filters.text.normalise import ENTITIES, LONGEST
from filters.text.phrases import PhraseList, Phrases
from filters.text.words import keys_of, words_of

# Only what this Python's Unicode knows: normal forms of newer characters differ between libraries.
CHARACTERS = st.characters(exclude_categories=("Cs", "Cn", "Co"))
CHOSEN = [
    " ", "  ", "\n", "\t", "\u00a0", "\u2028", "\u200d", "\ufeff", "\x00", "\x1f", "-", "'", "’", ",", "#",
    "#a", ".", "...",
    "&amp;", "&quot;", "&nbsp;", "&hellip;", "&#038;", "&", "&lt", ";",
    "a", "A", "İ", "ß", "ŉ", "é", "e\u0301", "\u0301", "1", "١", "²", "½", "猫",
    "ねこ", "ｶﾞ", "ไทย",
    "한국어", "кот", "Кот", "كلب", "الكلب", "שלום", "हिन्दी", "👩‍👩‍👧", "🇩🇪", "\U00020000", "\u202eabc", "the",
    "of", "red", "red red red",
    "fi", "ﬁ", "…", "Dž", "ǅ", "𝒜", "running", "wedding", "xkqzvbn", "yesssssss",
]  # fmt: skip
PIECES = st.sampled_from(CHOSEN) | st.text(CHARACTERS, max_size=8)
CAPTIONS = st.lists(st.none() | st.lists(PIECES, max_size=12).map("".join), max_size=12)
ANY = settings(deadline=None, max_examples=120)


def plain(text: str | None) -> str:
    for entity, sign in ENTITIES.items():
        text = (text or "").replace(entity, sign)
    return " ".join(unicodedata.normalize("NFKC", text or "").split())


def script_of(letter: str) -> str:
    if unicodedata.category(letter)[0] not in "LM" and letter not in "〇々":
        return ""
    return next((name for name, blocks in SCRIPTS.items() if any(a <= ord(letter) <= b for a, b in blocks)), "")


def kind(letter: str) -> str:
    """l letter or mark or digit of a spaced script, u unspaced, space or sign."""
    if script_of(letter) in WITHOUT_SPACES:
        return "u"
    if letter in "\u200c\u200d":
        return "m"
    return {"L": "l", "M": "m", "N": "n", "Z": " "}.get(unicodedata.category(letter)[0], ".")


def kinds(text: str) -> str:
    return "".join(kind(letter) for letter in text)


def words(text: str) -> list[str]:
    return [text[found.start() : found.end()] for found in re.finditer("[lm]+", kinds(text))]


def folded(word: str) -> str:
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in word)


def check(measure: np.ndarray, captions: list[str | None], reference: object) -> None:
    assert callable(reference)
    assert measure.tolist() == pytest.approx([reference(plain(text)) for text in captions])


@ANY
@given(CAPTIONS)
def test_normal_form(captions: list[str | None]) -> None:
    assert Captions(pa.array(captions, pa.string())).text.to_pylist() == [plain(text) for text in captions]


@ANY
@given(CAPTIONS)
def test_counts_of_characters(captions: list[str | None]) -> None:
    batch = Captions(pa.array(captions, pa.string()))
    check(batch.length, captions, len)
    check(characters.letters(batch), captions, lambda t: sum(kinds(t).count(k) for k in "lmu"))
    check(characters.digits(batch), captions, lambda t: kinds(t).count("n"))
    check(characters.signs(batch), captions, lambda t: kinds(t).count("."))
    check(characters.unspaced(batch), captions, lambda t: kinds(t).count("u"))
    check(characters.capitals(batch), captions, lambda t: sum(unicodedata.category(c) in ("Lu", "Lt") for c in t))
    check(characters.separators(batch), captions, lambda t: sum(c in ",，|;；/·•" for c in t))
    check(characters.hashtags(batch), captions, lambda t: len(re.findall("#(?=[lmu])", mixed(t, "#"))))


def mixed(text: str, kept: str) -> str:
    return "".join(c if c in kept else kind(c) for c in text)


@ANY
@given(CAPTIONS)
def test_units(captions: list[str | None]) -> None:
    def units(text: str) -> float:
        runs = re.findall("[lmn]+(?:['’-][lmn]+)*", mixed(text, "'’-"))
        return len(runs) + kinds(text).count("u") / 1.7

    check(characters.units(Captions(pa.array(captions, pa.string()))), captions, units)


@ANY
@given(CAPTIONS)
def test_scripts(captions: list[str | None]) -> None:
    found = characters.by_script(Captions(pa.array(captions, pa.string())))
    for number, name in enumerate(SCRIPTS, start=1):
        check(found[:, number], captions, lambda t, name=name: sum(script_of(c) == name for c in t))


@ANY
@given(CAPTIONS)
def test_words_and_their_repetition(captions: list[str | None]) -> None:
    batch = Captions(pa.array(captions, pa.string()))
    found = words_of(batch)
    expected = [[folded(word) for word in words(plain(text))] for text in captions]
    assert found.counts.tolist() == [len(each) for each in expected]
    # Two words have one key exactly when they are the same word.
    flat = [word for each in expected for word in each]
    assert len(set(zip(flat, found.keys.tolist(), strict=True))) == len(set(flat))
    repeated = repetition.repeated_words(batch)
    assert repeated.distinct.tolist() == [len(set(each)) for each in expected]
    assert repeated.commonest.tolist() == [max(Counter(each).values(), default=0) for each in expected]
    twice = [len(w) >= 6 and len(w) % 2 == 0 and w[: len(w) // 2] == w[len(w) // 2 :] for w in expected]
    assert repetition.said_twice(batch).tolist() == twice


@ANY
@given(CAPTIONS)
def test_closed_class_words_by_language(captions: list[str | None]) -> None:
    found = completeness.by_language(Captions(pa.array(captions, pa.string())))
    for column, listed in enumerate(FUNCTION_WORDS.values()):
        mine = set(listed.split())
        check(found[:, column], captions, lambda t, mine=mine: sum(folded(w) in mine for w in words(t)))


@ANY
@given(CAPTIONS)
def test_participles_and_titles(captions: list[str | None]) -> None:
    def participles(text: str) -> int:
        things = set(THINGS.split())
        small = [folded(w) for w in words(text) if len(w) > 4]
        return sum(w.endswith(("ing", "ed")) and w not in things for w in small)

    def capitalised(text: str) -> float:
        rest = [unicodedata.category(word[0]) in ("Lu", "Lt") for word in words(text)[1:]]
        return sum(rest) / len(rest) if rest else 0

    batch = Captions(pa.array(captions, pa.string()))
    check(completeness.participles(batch), captions, participles)
    check(completeness.capitalised(batch), captions, capitalised)


@ANY
@given(CAPTIONS)
def test_letter_pairs(captions: list[str | None]) -> None:
    fold, table = latin_letters(), letter_pairs.table()

    def likelihood(text: str) -> float:
        line = [0, *(int(fold[ord(letter)]) for letter in text), 0]
        if not re.search("[^_aeiouy]{6}", "".join("_abcdefghijklmnopqrstuvwxyz"[number] for number in line)):
            return 0
        pairs = [a * 27 + b for a, b in itertools.pairwise(line) if a != b]
        return sum(int(table[pair]) for pair in pairs) / 100 / len(pairs) if pairs else 0

    check(letter_pairs.likelihood(Captions(pa.array(captions, pa.string()))), captions, likelihood)


@ANY
@given(CAPTIONS, st.integers(2, 9))
def test_runs(captions: list[str | None], size: int) -> None:
    batch = Captions(pa.array(captions, pa.string()))
    found = characters.has_run(batch, characters.same_as_next(batch), size - 1)
    assert found.tolist() == [bool(re.search(rf"(.)\1{{{size - 1}}}", plain(t), re.DOTALL)) for t in captions]


BOOK = PhraseList(("read more", "share on *", "click here to * *", "read", "мой дом"), ("更多", "查看更多"))


@ANY
@given(
    st.lists(
        st.lists(
            st.sampled_from(
                ["read", "more", "share", "on", "click", "here", "to", "cat", "мой", "Дом", "更多", "查看", ",", "9"]
            )
        ).map(" ".join)
    )
)
def test_phrases(captions: list[str]) -> None:
    def covered(text: str) -> int:
        line = [folded(word) for word in words(text)]
        inside: set[int] = set()
        for phrase in BOOK.spaced:
            fixed = [w for w in phrase.split() if w != "*"]
            for at in range(len(line) - len(fixed) + 1):
                if line[at : at + len(fixed)] == fixed:
                    inside |= set(range(at, min(len(line), at + len(phrase.split()))))
        return sum(len(line[at]) for at in inside) + sum(map(len, re.findall("查看更多|更多", text)))

    batch, books = Captions(pa.array(captions, pa.string())), Phrases({"other": PhraseList(("more",)), "book": BOOK})
    found = books.covered(batch, begins(batch, books))
    check(found["book"], captions, covered)
    check(found["other"], captions, lambda text: 4 * sum(folded(word) == "more" for word in words(text)))


def begins(batch: Captions, books: Phrases) -> np.ndarray:
    return np.flatnonzero(np.isin(words_of(batch).keys, keys_of(sorted(books.first_words))))


@pytest.mark.parametrize(
    ("caption", "code"),
    [
        ("An old man is sitting on a bench", "en"),
        ("Der Hund läuft über den See und bellt", "de"),
        ("Un chat noir dort sur le canapé dans le salon", "fr"),
        ("Una mujer con un sombrero camina por la playa", "es"),
        ("Собака бежит по снегу в зимнем лесу", "ru"),
        ("公園のベンチに座っている老人", "ja"),
        ("图片里有三个黄色的十字", "zh"),
        ("공원 벤치에 앉아 있는 노인", "ko"),
        ("كلب يجري في الحديقة مع صاحبه", "ar"),
        ("Eiffel Tower", ""),
        ("12345 !", ""),
        (None, ""),
    ],
)
def test_language(caption: str | None, code: str) -> None:
    assert language.names(Captions(pa.array([caption], pa.string()))).to_pylist() == [code]


def test_endless_captions_are_measured_up_to_a_bound() -> None:
    batch = Captions(pa.array(["ab " * 40_000, "ab"]))
    assert batch.length.tolist() == [LONGEST, 2]
    assert words_of(batch).counts.tolist() == [LONGEST // 3, 1]


def test_a_slice_is_measured_as_if_it_were_alone() -> None:
    whole = pa.array(["one  two", None, "drei vier", " 猫猫 ", "ends"])
    for first in range(5):
        part = Captions(whole.slice(first, 2))
        alone = Captions(pa.array(whole.slice(first, 2).to_pylist(), pa.string()))
        assert part.text.equals(alone.text) and (characters.units(part) == characters.units(alone)).all()


def test_what_is_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="'two words' is not one word"):
        keys_of(["fine", "two words"])
    with pytest.raises(ValueError, match="stars stand for words at the end"):
        Phrases({"slides": PhraseList(("slide * of",))})
