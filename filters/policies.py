"""The two published policies, and where each threshold comes from.

The paper names the signals of both steps and gives no threshold (arXiv:2312.14238, section 3.1
and appendix). The numbers here are ours; they are judged by the share of rows that the
paper keeps per source (its Table 2).
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializeAsAny, field_validator

from filters.aesthetic import Aesthetic
from filters.aspect import Aspect
from filters.base import Filter
from filters.boilerplate import Boilerplate
from filters.caption_frequency import CaptionFrequency
from filters.caption_length import CaptionLength
from filters.clip_similarity import ClipSimilarity
from filters.completeness import Completeness
from filters.duplicates import Duplicates
from filters.eval_overlap import EvalOverlap
from filters.gibberish import Gibberish
from filters.image_bytes import ImageBytes
from filters.keyword_stuffing import KeywordStuffing
from filters.length_units import LengthUnits
from filters.min_side import MinSide
from filters.offensive import Offensive
from filters.placeholder import Placeholder
from filters.repetition import Repetition
from filters.source_code import SourceCode
from filters.special_characters import SpecialCharacters
from filters.unsafe import Unsafe
from filters.watermark import Watermark

FILTERS: dict[str, type[Filter]] = {
    each.reason: each
    for each in (
        ClipSimilarity,
        Watermark,
        Unsafe,
        Aesthetic,
        MinSide,
        Aspect,
        ImageBytes,
        CaptionLength,
        Duplicates,
        EvalOverlap,
        LengthUnits,
        Completeness,
        Gibberish,
        Boilerplate,
        Placeholder,
        SourceCode,
        Offensive,
        SpecialCharacters,
        KeywordStuffing,
        CaptionFrequency,
        Repetition,
    )
}

# Curated, synthetic and Chinese sets pass the second step whole: their counts do not change
# between the two columns of Table 2.
EXEMPT = frozenset({"cc3m", "cc12m", "sbu", "wukong", "laion_coco"})


class Policy(BaseModel):
    """A named, ordered list of filters; round-trips through JSON.

    Raises:
        ValueError: A rule is unknown, or named twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    filters: tuple[SerializeAsAny[Filter], ...]

    @field_validator("filters", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> tuple[Filter, ...]:
        rules = tuple(rule if isinstance(rule, Filter) else _rule(rule) for rule in value)
        if len({rule.reason for rule in rules}) != len(rules):
            raise ValueError("a filter is named twice in one policy")
        return rules


def _rule(fields: Any) -> Filter:
    kind = fields.get("kind", "") if isinstance(fields, dict) else ""
    if kind not in FILTERS:
        raise ValueError(f"no filter {kind!r}; known are {', '.join(sorted(FILTERS))}")
    return FILTERS[kind].model_validate(fields)


def clean(
    min_similarity: float = 0.2, min_pixels: float = 64, max_eval_similarity: float = 0.97, min_bytes: float = 2048
) -> Policy:
    """Return the light policy: six signals of the paper, extremes only, and no evaluation pictures.

    Args:
        min_similarity: Belongs to the scoring model; for LAION's own scores 0.28 is a no-op.
        min_pixels: LAION cut at 64 at its source; COYO at 200.
        max_eval_similarity: Ours; exact copies score 1.
        min_bytes: Half of COYO's 5 KB, because pictures are stored smaller here.
    """
    return Policy(
        name="clean",
        filters=(
            ClipSimilarity(min_similarity=min_similarity),
            # LAION's aesthetic subsets cut at 0.8; "drops only extremes" asks for less.
            Watermark(max_probability=0.95),
            Unsafe(max_probability=0.9),
            Aesthetic(min_score=2.0),
            MinSide(min_pixels=min_pixels),
            Aspect(max_ratio=5),
            ImageBytes(min_bytes=min_bytes),
            CaptionLength(min_characters=3, max_characters=1000),
            Duplicates(max_rows=10),
            EvalOverlap(max_similarity=max_eval_similarity),
        ),
    )


def caption_quality(source: str, min_units: float = 6, min_function_words: int = 2) -> Policy:
    """Return the strict caption policy for a source; empty where the paper's second step changes nothing.

    Args:
        source: Name of the source.
        min_units: Fewest words; web captions below six are mostly names of things.
        min_function_words: Two tell sentences from titles on the web; captions that people wrote to
            describe a picture often hold one.
    """
    if source in EXEMPT:
        return Policy(name="caption_quality", filters=())
    return Policy(
        name="caption_quality",
        filters=(
            LengthUnits(min_units=min_units, max_units=80),
            Completeness(min_function_words=min_function_words),
            Gibberish(),
            Boilerplate(max_coverage=0.4),
            Placeholder(),
            SourceCode(min_kinds=2),
            Offensive(),
            SpecialCharacters(max_share=0.25),
            KeywordStuffing(),
            # COYO-700M kept captions seen at most ten times.
            CaptionFrequency(max_rows=10),
            Repetition(),
        ),
    )
