"""What people answered to shown rows: read line by line by an allow-list, counted with Wilson's interval."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.storage import Store
from stages.manifest import Manifest, ManifestError
from stages.report.statistics import wilson
from stages.report.text import MAX_LANGUAGE

MOST_LINES = 100_000


class Review(BaseModel):
    """One answer: whether a person agrees with what became of a row under a rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(pattern=r"^[a-z0-9_]{1,80}$")
    rule: str = Field(pattern=r"^[a-z0-9_]{1,80}$")
    uid: str = Field(pattern=r"^[0-9a-f]{32}$")
    language: str = Field(max_length=MAX_LANGUAGE)
    kept: bool
    agree: bool


@dataclass(frozen=True)
class Wrong:
    """How many reviewed drops of a rule, or of a rule in one language, people call wrong."""

    rule: str
    language: str
    """Empty for all languages together."""
    wrong: int
    reviewed: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share of wrong drops."""
        return wilson(self.wrong, self.reviewed)


def parse(text: str, rules: Mapping[str, Collection[str]], what: str) -> list[Review]:
    """Return the answers of a JSON-lines file.

    Args:
        text: The file.
        rules: Names of rules by source.
        what: How messages call the file.

    Raises:
        ManifestError: A line is no answer, or names a source or rule that is not judged here; the message names
            the line.
    """
    answers = _answers(text, what)
    for number, review in answers:
        if review.source not in rules:
            raise ManifestError(
                f"{what}, line {number}: these verdicts are not about source {review.source!r}; they are about "
                f"{', '.join(sorted(rules))}, name the verdicts that the page was made of"
            )
        _check_rule(review, rules[review.source], f"{what}, line {number}")
    return [review for _, review in answers]


def _answers(text: str, what: str) -> list[tuple[int, Review]]:
    """Return each answer with the number of its line."""
    found = []
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > MOST_LINES:
        raise ManifestError(f"{what} has {len(lines):,} lines; at most {MOST_LINES:,} are read, split the file")
    for number, line in enumerate(lines, 1):
        try:
            review = Review.model_validate(json.loads(line))
        except (ValidationError, ValueError, RecursionError) as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is no JSON"
            raise ManifestError(
                f"{what}, line {number}: {said}; export answers from the page, which writes them so"
            ) from None
        found.append((number, review))
    return found


def _check_rule(review: Review, known: Collection[str], where: str) -> None:
    if review.rule not in known:
        raise ManifestError(
            f"{where}: no rule {review.rule!r} in this policy; it has {', '.join(sorted(known)) or 'none'}"
        )


def keep(store: Store, manifest: Manifest, answers: Sequence[Review]) -> str:
    """Store answers of one source beside its verdicts, numbered in the order they came: the last ones count.

    The same answers twice in a row are stored once.
    """
    text = "".join(each.model_dump_json() + "\n" for each in answers)
    digest, folder = hashlib.sha256(text.encode()).hexdigest()[:16], f"{manifest.ref.folder}/reviews/"
    there = sorted(store.keys(folder))
    if there and there[-1].endswith(f"-{digest}.jsonl"):
        return there[-1]
    key = f"{folder}{len(there):06d}-{digest}.jsonl"
    store.write(key, text.encode())
    return key


def stored(store: Store, manifest: Manifest, source: str, rules: Collection[str]) -> list[Review]:
    """Return all answers about a source that were stored beside its verdicts, in the order they came.

    Raises:
        ManifestError: A file there holds no answers, or answers about a rule that this policy lacks.
    """
    found = []
    for key in sorted(store.keys(f"{manifest.ref.folder}/reviews/")):
        for number, review in _answers(store.read(key).decode("utf-8", "replace"), key):
            # Files that were kept whole may speak of other sources too.
            if review.source == source:
                _check_rule(review, rules, f"{key}, line {number}")
                found.append(review)
    return found


def wrong_drops(reviews: Sequence[Review], sources: Collection[str]) -> list[Wrong]:
    """Return wrong drops of sources per rule, then by language where there are several.

    The last answer to a row counts.
    """
    last = {(each.source, each.rule, each.uid): each for each in reviews if each.source in sources}
    dropped = [each for each in last.values() if not each.kept]
    found = []
    for rule in sorted({each.rule for each in dropped}):
        of_rule = [each for each in dropped if each.rule == rule]
        found.append(Wrong(rule, "", sum(not each.agree for each in of_rule), len(of_rule)))
        languages = sorted({each.language for each in of_rule})
        for language in languages if len(languages) > 1 else ():
            some = [each for each in of_rule if each.language == language]
            found.append(Wrong(rule, language, sum(not each.agree for each in some), len(some)))
    return found
