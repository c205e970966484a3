"""Every filter that there is, by reason."""

from filters.aesthetic import Aesthetic
from filters.aspect import Aspect
from filters.base import Filter
from filters.boilerplate import Boilerplate
from filters.caption_frequency import CaptionFrequency
from filters.caption_length import CaptionLength
from filters.character_runs import CharacterRuns
from filters.clip_similarity import ClipSimilarity
from filters.completeness import Completeness
from filters.decoded_share import DecodedShare
from filters.digit_share import DigitShare
from filters.duplicates import Duplicates
from filters.error_message import ErrorMessage
from filters.eval_overlap import EvalOverlap
from filters.filename import Filename
from filters.frames import Frames
from filters.gibberish import Gibberish
from filters.image_bytes import ImageBytes
from filters.keyword_stuffing import KeywordStuffing
from filters.language_mismatch import LanguageMismatch
from filters.length_units import LengthUnits
from filters.letter_share import LetterShare
from filters.max_pixels import MaxPixels
from filters.min_side import MinSide
from filters.near_duplicates import NearDuplicates
from filters.offensive import Offensive
from filters.pii import PersonalData
from filters.placeholder import Placeholder
from filters.readability import Readability
from filters.repetition import Repetition
from filters.soft_404 import SoftNotFound
from filters.source_code import SourceCode
from filters.special_characters import SpecialCharacters
from filters.truncated import Truncated
from filters.unsafe import Unsafe
from filters.upper_share import UpperShare
from filters.url_email import UrlEmail
from filters.watermark import Watermark

FILTERS: dict[str, type[Filter]] = {
    each.reason: each
    for each in (
        # What the picture says: the light step.
        ClipSimilarity,
        Watermark,
        Unsafe,
        Aesthetic,
        MinSide,
        Aspect,
        ImageBytes,
        MaxPixels,
        Frames,
        DecodedShare,
        SoftNotFound,
        CaptionLength,
        Duplicates,
        EvalOverlap,
        # What the caption says: the strict step.
        LengthUnits,
        Completeness,
        Gibberish,
        Boilerplate,
        ErrorMessage,
        Placeholder,
        Filename,
        UrlEmail,
        SourceCode,
        Offensive,
        SpecialCharacters,
        LetterShare,
        DigitShare,
        KeywordStuffing,
        Repetition,
        CharacterRuns,
        Readability,
        CaptionFrequency,
        Truncated,
        # Flags, in no policy of ours.
        UpperShare,
        NearDuplicates,
        PersonalData,
        LanguageMismatch,
    )
}

FLAGS = frozenset({"upper_share", "near_duplicates", "pii", "language_mismatch"})
"""Rules that can be switched on and are in no policy of ours."""
