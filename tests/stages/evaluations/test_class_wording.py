"""Published names, found by what classes are called in the data."""

from collections.abc import Sequence

import pytest
from worlds import ListedExamples

from stages.evaluations.class_wording import published_wording, words_of
from stages.evaluations.prompt_sets import Prompts, PromptSettings, published_names, resolve

EUROSAT = (
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
    "Residential", "River", "SeaLake",
)  # fmt: skip
FEELINGS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def resolved(classes: Sequence[str], benchmark: str) -> Prompts:
    return resolve(PromptSettings(), ListedExamples([], classes=classes), benchmark)


def test_words_of_a_name_are_the_same_however_it_is_written() -> None:
    for name in ("AnnualCrop", "annual_crop", "annual crop", "Annual-Crop"):
        assert words_of(name) == ("annual", "crop")
    assert words_of("Boeing737MAX") == ("boeing", "737", "max") and words_of("Citroën Ü") == ("citroën", "ü")


@pytest.mark.parametrize(("benchmark", "own"), [("eurosat", EUROSAT), ("fer2013", FEELINGS)])
def test_folders_get_the_published_names_in_their_own_order(benchmark: str, own: Sequence[str]) -> None:
    known = published_names(benchmark)
    assert resolved(own, benchmark).class_names == known
    found = resolved(own[::-1], benchmark)
    assert found.class_names == known[::-1] and found.names_from.startswith("clip-benchmark's en names of")
    assert found.note.startswith(f"Classes are called as in {benchmark}'s published prompts: ")
    assert f"{known[-1]!r} for {own[-1]!r}" in found.note
    assert resolved(known, benchmark).note == "", "names that are the published ones need no word"


@pytest.mark.parametrize("own", [EUROSAT[:9], (*EUROSAT[:8], "Stream", "Ocean"), (*EUROSAT[1:], "Crop")])
def test_names_that_are_not_found_stay_and_are_told(own: Sequence[str]) -> None:
    found = resolved(own, "eurosat")
    assert found.class_names == tuple(own) and found.names_from == "the dataset"
    assert "Classes are called as the data call them" in found.note and "not as in eurosat's published" in found.note


def test_data_of_ones_own_are_not_renamed() -> None:
    found = resolved(EUROSAT, "mine")
    assert found.class_names == EUROSAT and found.note == ""


def test_a_name_that_two_classes_may_mean_is_given_to_none() -> None:
    assert published_wording(("red", "blue"), ("blue sky", "red car")) == ("red car", "blue sky")
    assert published_wording(("car", "red", "sky"), ("red car", "red bus", "sky")) is None
    assert published_wording(("lymph node", "tumor"), ("lymph node", "lymph node with tumor"))  == (
        "lymph node", "lymph node with tumor",
    )  # fmt: skip
