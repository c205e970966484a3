"""What is asked about scenes: that answers are right, and that nothing gives them away."""

import random
from collections import Counter

import pytest

from stages.sources.captions import LANGUAGES, caption, definite, indefinite, words
from stages.sources.questions import FAMILIAR, LOOKUP, PRESENCE, absent_pairs, ask, document, questions
from stages.sources.scenes import COLORS, SHAPES, UNSEEN_PAIRS, Scene, Split, sample_scene


def pairs_of(scene: Scene) -> list[tuple[str, str]]:
    return [(scene.group_color, scene.group_shape), (scene.single_color, scene.single_shape)]


def test_exists_is_balanced() -> None:
    said = [questions(sample_scene(0, n, Split.TRAIN), "en")[4].answer for n in range(400)]
    assert 0.4 < said.count("yes") / len(said) < 0.6


def test_nobody_learns_that_unseen_pairs_are_absent() -> None:
    for split in (Split.TRAIN, Split.UNSEEN):
        scenes = [sample_scene(0, n, split) for n in range(40)]
        for scene in scenes:
            shown = {(scene.group_color, scene.group_shape), (scene.single_color, scene.single_shape)}
            absent = set(absent_pairs(scene))
            assert not absent & shown and (len(absent), bool(absent & UNSEEN_PAIRS)) == (
                (23, False) if split is Split.TRAIN else (28, True)
            )


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_lookup_names_one_object_alone(language: str) -> None:
    said = words(language)
    for n in range(200):
        scene = sample_scene(3, n, Split.TRAIN)
        objects = [(scene.group_color, scene.group_shape), (scene.single_color, scene.single_shape)]
        found = ask(scene, language, LOOKUP, random.Random(n))
        spoken = [(said["color"][color], said["shape"][shape]) for color, shape in objects]
        # One of the two is named by what it alone has, and the answer is its other side.
        meant = [(name, other) for pair in spoken for name, other in (pair, pair[::-1]) if name in found.question]
        assert [found.answer] == [other for name, other in meant if sum(name in pair for pair in spoken) == 1]


def test_documents_hold_two_captions_and_two_questions() -> None:
    scene = sample_scene(0, 3, Split.TRAIN)
    told = document(scene, 3)
    assert told.retold in [caption(scene, told.language, variant) for variant in (0, 1)]
    assert told.described in [caption(scene, language, variant) for language in LANGUAGES for variant in (0, 1)]
    assert len(told.asked) == 2


def test_things_are_named_as_people_do() -> None:
    assert [indefinite("en", "red", shape) for shape in ("moon", None)] == ["a red moon", "a red object"]
    said = [indefinite("de", color, shape) for color, shape in (("red", "moon"), ("blue", "cross"), ("purple", None))]
    assert said == ["einen roten Mond", "ein blaues Kreuz", "ein lila Objekt"]
    assert [indefinite("de", None, shape) for shape in ("ring", "square")] == ["einen Ring", "ein Quadrat"]
    assert [definite("de", *thing) for thing in (("red", None), (None, "ring"), (None, "square"))] == [
        "das rote Objekt",
        "der Ring",
        "das Quadrat",
    ]
    assert [definite("en", *thing) for thing in (("red", None), (None, "ring"))] == ["the red one", "the ring"]
    assert [indefinite("zh", "red", "ring"), definite("zh", "red", None)] == ["红色的圆环", "红色的物体"]


THINGS = {
    PRESENCE: [*((color, None) for color in COLORS), *((None, shape) for shape in SHAPES)],
    FAMILIAR: [pair for pair in ((c, s) for c in COLORS for s in SHAPES) if pair not in UNSEEN_PAIRS],
}


@pytest.mark.parametrize("kind", THINGS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_few_things_are_asked_for_often_and_are_there_about_as_often_as_not(kind: str, language: str) -> None:
    yes, no = (
        ask(sample_scene(0, 0, Split.TRAIN), language, "exists", random.Random(0), there).answer
        for there in (True, False)
    )
    meant = {ask_of(thing, language): thing for thing in THINGS[kind]}
    counts: Counter[tuple[tuple[str | None, str | None], bool]] = Counter()
    for number in range(4000):
        scene = sample_scene(5, number, Split.TRAIN)
        found = ask(scene, language, kind, random.Random(number))
        color, shape = meant[found.question]
        there = any(color in (None, pair[0]) and shape in (None, pair[1]) for pair in pairs_of(scene))
        assert found.answer == (yes if there else no)
        counts[(color, shape), there] += 1
    asked = Counter[tuple[str | None, str | None]]()
    for (thing, _), count in counts.items():
        asked[thing] += count
    few = [thing for thing, _ in asked.most_common(4)]
    assert sum(asked[thing] for thing in few) > 0.5 * asked.total() and len(asked) == len(THINGS[kind])
    assert all(0.2 < counts[thing, True] / asked[thing] < 0.65 for thing in few)


def ask_of(thing: tuple[str | None, str | None], language: str) -> str:
    asked = {"en": "Is there {}?", "de": "Gibt es {}?", "zh": "有{}吗？"}
    return asked[language].format(indefinite(language, *thing))
