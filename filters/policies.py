"""The two published policies, and where each threshold comes from.

The paper names the signals of both steps and gives no threshold (arXiv:2312.14238, section 3.1
and appendix). The numbers here are ours; they are judged by the share of rows that the
paper keeps per source (its Table 2).
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationInfo, field_validator

from filters.aesthetic import Aesthetic
from filters.aspect import Aspect
from filters.base import Filter
from filters.boilerplate import Boilerplate
from filters.caption_frequency import CaptionFrequency
from filters.caption_length import CaptionLength
from filters.catalogue import FILTERS
from filters.character_runs import CharacterRuns
from filters.clip_similarity import ClipSimilarity
from filters.completeness import Completeness
from filters.digit_share import DigitShare
from filters.duplicates import Duplicates
from filters.error_message import ErrorMessage
from filters.eval_overlap import EvalOverlap
from filters.filename import Filename
from filters.gibberish import Gibberish
from filters.image_bytes import ImageBytes
from filters.keyword_stuffing import KeywordStuffing
from filters.length_units import LengthUnits
from filters.letter_share import LetterShare
from filters.min_side import MinSide
from filters.offensive import Offensive
from filters.own import OwnFilters, load
from filters.placeholder import Placeholder
from filters.readability import Readability
from filters.repetition import Repetition
from filters.soft_404 import SoftNotFound
from filters.source_code import SourceCode
from filters.special_characters import SpecialCharacters
from filters.unsafe import Unsafe
from filters.url_email import UrlEmail
from filters.watermark import Watermark

# Curated, synthetic and Chinese sets pass the second step whole: their counts do not change
# between the two columns of Table 2.
EXEMPT = frozenset({"cc3m", "cc12m", "sbu", "wukong", "laion_coco"})

PROFILES = ("laion_en", "laion_multi", "coyo", *sorted(EXEMPT))
"""Sources of the paper; any other name is judged as a web source."""


class Policy(BaseModel):
    """A named, ordered list of filters; round-trips through JSON.

    Raises:
        ValueError: A rule is unknown, or named twice, or a user's own filters changed since.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    own: OwnFilters | None = Field(default=None, description="Where the user's own filters are, and their digest.")
    filters: tuple[SerializeAsAny[Filter], ...]

    @field_validator("filters", mode="before")
    @classmethod
    def _by_kind(cls, value: Any, info: ValidationInfo) -> tuple[Filter, ...]:
        own = info.data.get("own")
        known = FILTERS | (load(own) if own else {})
        rules = tuple(rule if isinstance(rule, Filter) else _rule(rule, known) for rule in value)
        if len({rule.reason for rule in rules}) != len(rules):
            raise ValueError("a filter is named twice in one policy")
        return rules

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to workers as JSON: a user's filters are loaded there from their files."""
        return Policy.model_validate_json, (self.model_dump_json(),)


def _rule(fields: Any, known: Mapping[str, type[Filter]]) -> Filter:
    kind = fields.get("kind", "") if isinstance(fields, dict) else ""
    if kind not in known:
        raise ValueError(f"no filter {kind!r}; known are {', '.join(sorted(known))}")
    return known[kind].model_validate(fields)


def clean(
    min_similarity: float = 0.2,
    min_pixels: float = 64,
    max_eval_similarity: float = 0.97,
    min_bytes: float = 2048,
    filters_folder: str | None = None,
) -> Policy:
    """Return the light policy: six signals of the paper, extremes only, and no evaluation or stand-in pictures.

    Args:
        min_similarity: Belongs to the scoring model; for LAION's own scores 0.28 is a no-op.
        min_pixels: LAION cut at 64 at its source; COYO at 200.
        max_eval_similarity: Ours; exact copies score 1.
        min_bytes: Half of COYO's 5 KB, because pictures are stored smaller here.
        filters_folder: A folder with filters of the user's own, which join the policy.
    """
    rules = (
        ClipSimilarity(min_similarity=min_similarity),
        Watermark(),
        Unsafe(),
        Aesthetic(),
        MinSide(min_pixels=min_pixels),
        Aspect(),
        ImageBytes(min_bytes=min_bytes),
        CaptionLength(),
        Duplicates(),
        SoftNotFound(),
        EvalOverlap(max_similarity=max_eval_similarity),
    )
    return _policy("clean", rules, filters_folder)


def caption_quality(
    source: str, min_units: float = 5.8, min_function_words: int = 2, filters_folder: str | None = None
) -> Policy:
    """Return the strict caption policy for a source; empty where the paper's second step changes nothing.

    Args:
        source: Name of the source.
        min_units: Fewest words; web captions below six are mostly names of things. 5.8 is six words of a spaced
            script, and ten characters of one without spaces.
        min_function_words: Two tell sentences from titles on the web; captions that people wrote to
            describe a picture often hold one.
        filters_folder: A folder with filters of the user's own, which join the policy.
    """
    if source in EXEMPT:
        return Policy(name="caption_quality", filters=())
    rules = (
        LengthUnits(min_units=min_units),
        Completeness(min_function_words=min_function_words),
        Gibberish(),
        Boilerplate(),
        ErrorMessage(),
        Placeholder(),
        Filename(),
        UrlEmail(),
        SourceCode(),
        Offensive(),
        SpecialCharacters(),
        LetterShare(),
        DigitShare(),
        KeywordStuffing(),
        Repetition(),
        CharacterRuns(),
        Readability(),
        CaptionFrequency(),
    )
    return _policy("caption_quality", rules, filters_folder)


def _policy(name: str, rules: tuple[Filter, ...], folder: str | None) -> Policy:
    if folder is None:
        return Policy(name=name, filters=rules)
    own = OwnFilters.of(folder)
    return Policy(name=name, own=own, filters=(*rules, *(each() for each in load(own).values())))
