"""What people answered to shown rows: read line by line by an allow-list, counted with Wilson's interval."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.storage import Store
from stages.manifest import Manifest, ManifestError
from stages.report.statistics import wilson
from stages.report.text import MAX_LANGUAGE

MOST_LINES = 100_000
_UID = re.compile(r"[0-9a-f]{32}")


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


def parse(text: str, rules: Iterable[str], what: str) -> list[Review]:
    """Return the answers of a JSON-lines file.

    Raises:
        ManifestError: A line is no answer, or names a rule that this policy lacks; the message names the line.
    """
    known, found = set(rules), []
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
        if review.rule not in known:
            raise ManifestError(
                f"{what}, line {number}: no rule {review.rule!r} in this policy; it has {', '.join(sorted(known))}"
            )
        found.append(review)
    return found


def keep(store: Store, manifest: Manifest, text: str) -> str:
    """Store answers beside the verdicts, numbered in the order they came; the same file twice is stored once."""
    digest, folder = hashlib.sha256(text.encode()).hexdigest()[:16], f"{manifest.ref.folder}/reviews/"
    there = sorted(store.keys(folder))
    if same := [key for key in there if key.endswith(f"-{digest}.jsonl")]:
        return same[0]
    key = f"{folder}{len(there):06d}-{digest}.jsonl"
    store.write(key, text.encode())
    return key


def stored(store: Store, manifest: Manifest, rules: Iterable[str]) -> list[Review]:
    """Return all answers that were stored beside the verdicts, in the order they came."""
    known, found = list(rules), list[Review]()
    for key in sorted(store.keys(f"{manifest.ref.folder}/reviews/")):
        found += parse(store.read(key).decode("utf-8", "replace"), known, key)
    return found


def wrong_drops(reviews: Sequence[Review]) -> list[Wrong]:
    """Return wrong drops per rule, then by language where there are several; the last answer to a row counts."""
    last = {(each.source, each.rule, each.uid): each for each in reviews}
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
