"""Bit positions of reasons in the 64-bit mask: given once, never reused."""

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
}


def reasons_of(mask: int) -> list[str]:
    """Return the reasons in a mask, by bit."""
    return [reason for reason, bit in sorted(BITS.items(), key=lambda item: item[1]) if mask >> bit & 1]
