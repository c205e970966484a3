"""Bit positions of reasons in the 64-bit mask: given once, never reused.

0 to 47 are ours; 48 to 62 belong to a user's own filters (`filters.own`); 63 is given to none, so that a mask is
a positive number in every reader, also in those that know signed numbers alone. Which signals were not computed
is counted by rule, in the funnel.
"""

BITS: dict[str, int] = {
    "clip_similarity": 0,
    "watermark": 1,
    "unsafe": 2,
    "aesthetic": 3,
    "min_side": 4,
    "aspect": 5,
    "image_bytes": 6,
    "caption_length": 7,
    "duplicates": 8,
    "eval_overlap": 9,
    "length_units": 10,
    "completeness": 11,
    "gibberish": 12,
    "boilerplate": 13,
    "placeholder": 14,
    "source_code": 15,
    "offensive": 16,
    "special_characters": 17,
    "keyword_stuffing": 18,
    "caption_frequency": 19,
    "repetition": 20,
    "max_pixels": 21,
    "frames": 22,
    "decoded_share": 23,
    "soft_404": 24,
    "letter_share": 25,
    "digit_share": 26,
    "upper_share": 27,
    "character_runs": 28,
    "filename": 30,
    "url_email": 31,
    "error_message": 32,
    "truncated": 33,
    "readability": 34,
    "near_duplicates": 35,
    "pii": 36,
    "language_mismatch": 37,
}

OWN_BITS = range(48, 63)
"""For filters that users write; `filters.own` hands them out."""


def reasons_of(mask: int) -> list[str]:
    """Return the reasons in a mask, by bit."""
    return [reason for reason, bit in sorted(BITS.items(), key=lambda item: item[1]) if mask >> bit & 1]
