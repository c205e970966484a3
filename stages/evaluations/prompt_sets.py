"""What classes are called and in which sentences: the prompts that published zero-shot numbers were made with.

Sentences and names are read from the data files of the installed clip-benchmark package, whose command line made the
paper's numbers; none of them is kept here. A dataset's own lists go before, and a user's go before all.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.evaluations.base import Examples, HasClassIds, HasTemplates
from stages.evaluations.class_wording import published_wording, words_of
from stages.manifest import ManifestError

FALLBACK = "imagenet1k"
"""Whose sentences a dataset gets that has none of its own, as in CLIP_benchmark; its variants are among those."""
PLACE = "{c}"
USUAL = "this protocol"
_LANGUAGES = {"en": "en", "zh": "cn", "ja": "jp", "jp": "jp", "ar": "ar", "it": "it"}
_TOLD = 3
"""Changed names that a note tells."""
_WNID = re.compile(r"n\d{8}")


class PromptSettings(BaseModel):
    """What classes are called and in which sentences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: str = Field(
        default="en", description="Of prompts and class names: en, zh, ja (or jp), ar, it have some."
    )
    prompts: str = Field(
        default="", description="CLIP_benchmark's name of the dataset whose prompts are used; found by name if empty."
    )
    templates: tuple[str, ...] = Field(default=(), description="Own sentences; {c} stands for the class.")
    class_names: tuple[str, ...] = Field(default=(), description="Own names of the classes, in the order of labels.")

    @field_validator("templates")
    @classmethod
    def _each_names_the_class(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if PLACE not in template:
                raise ValueError(f"the sentence {template!r} has no {PLACE} where the class is named; put it in")
        return templates


class Prompts(NamedTuple):
    """What a model is asked."""

    templates: tuple[str, ...]
    class_names: tuple[str, ...]
    templates_from: str
    names_from: str
    note: str = ""
    """Where classes are called otherwise than in the data, or than in what was published."""

    def of(self, number: int) -> list[str]:
        """Return all sentences about a class."""
        return [template.replace(PLACE, self.class_names[number]) for template in self.templates]


def package_file(package: str, path: str) -> str:
    """Return a data file of an installed package without importing it.

    Raises:
        ManifestError: The package or the file is not there.
    """
    found = find_spec(package)
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        file = Path(folder) / path
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise ManifestError(
        f"the installed {package} has no {path}, where published prompts are read; install what `requirements.lock` "
        "names, or give settings `templates` and `class_names`"
    )


@cache
def _table(language: str, what: str) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = json.loads(
        package_file("clip_benchmark", f"datasets/{_LANGUAGES[language]}_{what}.json")
    )
    return found


@cache
def wnids() -> tuple[str, ...]:
    """Return the WordNet ids of ImageNet-1K's classes in the order of their labels, as timm ships them."""
    return tuple(package_file("timm", "data/_info/imagenet_synsets.txt").split())


def published_templates(dataset: str, language: str = "en") -> tuple[str, ...]:
    """Return CLIP_benchmark's sentences for a dataset, none where it has none."""
    if language not in _LANGUAGES:
        return ()
    return tuple(_table(language, "zeroshot_classification_templates").get(dataset, ()))


def published_names(dataset: str, language: str = "en") -> tuple[str, ...]:
    """Return CLIP_benchmark's names of a dataset's classes, none where it has none."""
    if language not in _LANGUAGES:
        return ()
    return tuple(_table(language, "classnames").get(dataset, ()))


def resolve(settings: PromptSettings, examples: Examples, benchmark: str, usual: tuple[str, ...] = ()) -> Prompts:
    """Return what a model is asked about these examples.

    Args:
        settings: What the user wants.
        examples: Whose classes they are.
        benchmark: Their name, by which published prompts are found.
        usual: A protocol's own English sentences, where a dataset has none.

    Raises:
        ManifestError: There are no sentences or names in this language, or not as many names as classes.
    """
    published = settings.prompts or _same_name(benchmark, settings.language)
    templates, templates_from = _templates(settings, examples, published, usual)
    names, names_from = _names(settings, examples, published)
    if len(names) == 1:
        raise ManifestError(
            f"{benchmark} has the one class {names[0]!r} ({names_from}), and a class is told from others; complete "
            "its data with a folder or a label for each class, or name all in classes.txt or setting `class_names`"
        )
    if len(names) != (len(examples.classes) or len(names)):
        raise ManifestError(
            f"{benchmark} has {len(examples.classes)} classes, and {names_from} has {len(names)} names; give one "
            "name per class in setting `class_names`, in the order of labels"
        )
    return Prompts(
        templates, names, templates_from, names_from, _note(examples, names, names_from, published, settings)
    )


def _same_name(benchmark: str, language: str) -> str:
    """Return the dataset of CLIP_benchmark that is called like ours, signs between words aside."""

    def bare(name: str) -> str:
        return re.sub(r"[^a-z0-9]", "", name.lower())

    known = _table(language if language in _LANGUAGES else "en", "zeroshot_classification_templates")
    return next((name for name in known if bare(name) == bare(benchmark)), FALLBACK)


def _templates(
    settings: PromptSettings, examples: Examples, published: str, usual: tuple[str, ...]
) -> tuple[tuple[str, ...], str]:
    if settings.templates:
        return settings.templates, "settings"
    own = tuple(examples.templates) if isinstance(examples, HasTemplates) else ()
    # What lies beside a dataset is English as a rule; a language that was asked for goes before it.
    if own and (settings.language == "en" or settings.language not in _LANGUAGES):
        if without := [template for template in own if PLACE not in template]:
            raise ManifestError(
                f"the dataset's prompt {without[0]!r} has no {PLACE} where the class is named; mend its list, or "
                "give setting `templates`"
            )
        return own, "the dataset"
    if usual and settings.language == "en" and not settings.prompts:
        return usual, USUAL
    for name in (published, FALLBACK):
        if found := published_templates(name, settings.language):
            return found, f"clip-benchmark's {settings.language} prompts of {name}"
    raise ManifestError(
        f"there are no prompts in {settings.language!r}; published ones are in {', '.join(_LANGUAGES)}, others are "
        "given in setting `templates`"
    )


def _names(settings: PromptSettings, examples: Examples, published: str) -> tuple[tuple[str, ...], str]:
    if settings.class_names:
        return settings.class_names, "settings"
    own, where = tuple(examples.classes), f"clip-benchmark's {settings.language} names of {published}"
    found = published_names(published, settings.language)
    ids = (isinstance(examples, HasClassIds) and tuple(examples.class_ids)) or own
    named = settings.language == "en" and ids != own
    if ids and not named and all(_WNID.fullmatch(each) for each in ids):
        return _by_wnid(ids, settings.language), f"clip-benchmark's {settings.language} names of {FALLBACK} by wnid"
    if settings.language == "en" and any(not name.isdigit() for name in own):
        plain = tuple(name.replace("_", " ") for name in own)
        listed = named and plain != tuple(each.replace("_", " ") for each in ids)
        worded = None if listed or _is_stand_in(published, settings) else published_wording(own, found)
        return (worded, where) if worded else (plain, "the dataset")
    if settings.language == "en" and len(own) not in (0, len(found)):
        return own, "the dataset"
    if found:
        return found, where
    raise ManifestError(
        f"classes of {published} have no published names in {settings.language!r}; give them in setting `class_names`"
    )


def _is_stand_in(published: str, settings: PromptSettings) -> bool:
    """Say whether published names may be of another dataset than the one that is measured."""
    return published == FALLBACK and not settings.prompts


def _note(examples: Examples, names: Sequence[str], names_from: str, published: str, settings: PromptSettings) -> str:
    known, own = published_names(published, settings.language), tuple(examples.classes)
    if settings.language != "en" or not known or _is_stand_in(published, settings):
        return ""
    if names_from == "the dataset" and tuple(names) != known:
        example = next((name for name in names if name not in known), names[0])
        return (
            f"Classes are called as the data call them ({example!r} for one), not as in {published}'s published "
            f"prompts ({known[0]!r}, ...); setting `class_names` takes others."
        )
    changed = [(name, each) for name, each in zip(names, own, strict=False) if words_of(name) != words_of(each)]
    if names_from == "settings" or not changed or all(each.isdigit() for each in own):
        return ""
    pairs = ", ".join(f"{name!r} for {each!r}" for name, each in changed[:_TOLD])
    return f"Classes are called as in {published}'s published prompts: {pairs}{', ...' if changed[_TOLD:] else ''}."


def _by_wnid(own: Sequence[str], language: str) -> tuple[str, ...]:
    names = dict(zip(wnids(), published_names(FALLBACK, language), strict=False))
    if unknown := [name for name in own if name not in names]:
        raise ManifestError(
            f"class {unknown[0]} is none of ImageNet-1K's with a name in {language!r}; give all names in setting "
            "`class_names`"
        )
    return tuple(names[name] for name in own)
