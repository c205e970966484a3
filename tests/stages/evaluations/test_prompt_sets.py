"""Prompts: as many as the paper's protocol names, and whose go before whose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError
from worlds import ListedExamples

from stages.evaluations.prompt_sets import (
    PromptSettings,
    package_file,
    published_names,
    published_templates,
    resolve,
    wnids,
)
from stages.manifest import ManifestError

COUNTS = {
    "imagenet1k": 80,
    "cifar10": 18,
    "cifar100": 18,
    "food101": 1,
    "sun397": 2,
    "cars": 8,
    "fgvc_aircraft": 2,
    "dtd": 8,
    "pets": 1,
    "caltech101": 34,
    "flowers": 1,
    "mnist": 1,
    "stl10": 2,
    "eurosat": 3,
    "gtsrb": 3,
    "country211": 5,
    "renderedsst2": 1,
    "voc2007": 1,
    "fer2013": 6,
    "resisc45": 4,
}
"""Of arXiv:2312.14238's zero-shot suite, as its released code has them."""


@dataclass
class WithTemplates(ListedExamples):
    templates: Sequence[str] = ("my {c}",)


def asked(classes: Sequence[str], benchmark: str = "mine", kind: type = ListedExamples, **settings: Any) -> Any:
    return resolve(PromptSettings(**settings), kind([], classes=classes), benchmark)


@pytest.mark.parametrize(("dataset", "count"), COUNTS.items())
def test_there_are_as_many_prompts_as_the_protocol_names(dataset: str, count: int) -> None:
    assert len(published_templates(dataset)) == count
    assert all("{c}" in template for template in published_templates(dataset))


@pytest.mark.parametrize(("language", "count"), [("zh", 80), ("ja", 37), ("jp", 37), ("ar", 55), ("it", 49)])
def test_imagenet_speaks_four_more_languages(language: str, count: int) -> None:
    assert len(published_templates("imagenet1k", language)) == count
    assert len(published_names("imagenet1k", language)) == 1000


def test_wordnet_ids_are_in_the_order_of_the_names() -> None:
    assert len(wnids()) == len(set(wnids())) == len(published_names("imagenet1k")) == 1000
    assert wnids()[0] == "n01440764" and published_names("imagenet1k")[0] == "tench"
    assert wnids()[-1] == "n15075141" and published_names("imagenet1k")[-1] == "toilet paper"


def test_a_benchmark_finds_its_prompts_whatever_signs_its_name_has() -> None:
    assert len(asked(["cat", "dog"], "cifar_10").templates) == 18
    assert len(asked(["cat", "dog"], "fgvc-aircraft").templates) == 2
    assert len(asked(["cat", "dog"], "my_own_pictures").templates) == 80
    assert len(asked(["cat", "dog"], "my_own_pictures", prompts="pets").templates) == 1


def test_own_lists_go_before_published_ones_and_settings_before_all() -> None:
    found = asked(["great_cat", "dog"], "pets", WithTemplates)
    assert found.templates == ("my {c}",) and found.class_names == ("great cat", "dog")
    assert found.of(0) == ["my great cat"]
    found = asked(["cat", "dog"], "pets", WithTemplates, templates=("a {c}", "{c}!"), class_names=("Katze", "Hund"))
    assert found.of(1) == ["a Hund", "Hund!"]
    assert (found.templates_from, found.names_from) == ("settings", "settings")


def test_a_language_that_was_asked_for_goes_before_the_datasets_own_english() -> None:
    found = asked(["n01440764", "n15075141"], "imagenet1k", WithTemplates, language="it")
    assert found.class_names == ("una tinca", published_names("imagenet1k", "it")[-1])
    assert len(found.templates) == 49
    vietnamese = asked(["a", "b"], "imagenet1k", WithTemplates, language="vi", class_names=("mèo", "chó"))
    assert vietnamese.of(0) == ["my mèo"]


@dataclass
class WithIds(ListedExamples):
    class_ids: Sequence[str] = ("n15075141", "n01440764")


def test_ids_beside_names_speak_the_other_languages() -> None:
    assert asked(["Papier", "Schleie"], "part_of_imagenet", WithIds).class_names == ("Papier", "Schleie")
    assert asked(["Papier", "Schleie"], "part_of_imagenet", WithIds, language="it").class_names[1] == "una tinca"


def test_classes_without_a_name_take_the_published_one_of_their_label() -> None:
    numbers = [str(number) for number in range(1000)]
    assert asked(numbers, "imagenet_v2").class_names == published_names("imagenet1k")
    assert asked([], "gtsrb").class_names == published_names("gtsrb")
    assert asked(["0", "1"], "mine").class_names == ("0", "1")
    names = [f"class {number}" for number in numbers]
    assert asked(names, "imagenet1k", language="zh").class_names[:2] == ("丁鲷", "金鱼")


def test_braces_of_a_class_are_its_own() -> None:
    assert asked(["{0.real}", "b"], templates=("a {c}",)).of(0) == ["a {0.real}"]


@pytest.mark.parametrize(
    ("classes", "settings", "said"),
    [
        (
            ["a"],
            {},
            r"mine has the one class 'a' \(the dataset\), and a class is told from others; complete its data",
        ),
        (["a", "b"], {"class_names": ("x", "y", "z")}, "has 2 classes, and settings has 3 names"),
        (["a", "b"], {"language": "zh"}, "has 2 classes, and clip-benchmark's zh names of imagenet1k has 1000"),
        (["a", "b"], {"language": "tlh", "class_names": ("x", "y")}, "no prompts in 'tlh'"),
        (["a", "b"], {"language": "tlh", "templates": ("{c}",)}, "no published names in 'tlh'"),
        (["n00000000", "n01440764"], {}, "class n00000000 is none of ImageNet-1K's"),
    ],
)
def test_what_is_missing_is_named(classes: list[str], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        asked(classes, **settings)


def test_a_protocols_own_sentences_stand_in_for_those_that_a_dataset_lacks() -> None:
    usual = ("a video of {c}.",)
    named = ListedExamples([], classes=("a", "b"))
    assert resolve(PromptSettings(), named, "pets", usual).templates == usual
    assert resolve(PromptSettings(), WithTemplates([], classes=("a", "b")), "x", usual).templates == ("my {c}",)
    assert len(resolve(PromptSettings(prompts="pets"), named, "x", usual).templates) == 1
    spoken = PromptSettings(language="it", class_names=("uno", "due"))
    assert len(resolve(spoken, named, "x", usual).templates) == 49


def test_a_datasets_sentence_without_its_class_is_named() -> None:
    with pytest.raises(ManifestError, match=r"prompt 'a photo' has no \{c\}"):
        resolve(PromptSettings(), WithTemplates([], classes=("a", "b"), templates=("{c}", "a photo")), "x")


def test_a_sentence_names_the_class() -> None:
    with pytest.raises(ValidationError, match=r"has no \{c\}"):
        PromptSettings(templates=("a photo",))


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(ManifestError, match=r"no_such_package has no x\.json"):
        package_file("no_such_package", "x.json")
