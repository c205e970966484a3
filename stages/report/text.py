"""Numbers and captions as a page shows them: rounded and named numbers, captions that cannot mislead a reader."""

import re
import unicodedata

from markupsafe import Markup, escape

MAX_CAPTION = 200
MAX_MARKS = 4
MAX_LANGUAGE = 40
MASKED_OVER = MAX_CAPTION + 400
"""Characters that are looked at for addresses, so that one at the cut is known as one."""
LONGEST_ADDRESS = 130

_NAMED = {
    0x00A0: "NBSP",
    0x00AD: "SHY",
    0x061C: "ALM",
    0x180E: "MVS",
    0x200B: "ZWSP",
    0x200C: "ZWNJ",
    0x200D: "ZWJ",
    0x200E: "LRM",
    0x200F: "RLM",
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2060: "WJ",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
    0xFEFF: "BOM",
}
_COUNTED = frozenset(
    {
        "bytes", "captions", "characters", "code points", "frames", "function words", "kinds", "listed words",
        "pixels", "rows", "separators", "units",
    }
)  # fmt: skip
"""Units that are plurals."""
# Named here are categories that draw nothing of their own, and line ends that would change the layout.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_NUMBER = re.compile(r"\+?\d(?:[\s().-]{0,2}\d){8,}")


def _pieces(caption: str, most: int = MAX_CAPTION) -> list[tuple[str, bool]]:
    """Return (text, whether it is the name of a character that would not be seen)."""
    out: list[tuple[str, bool]] = []
    marks = 0
    for character in caption[:most]:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MAX_MARKS:
            continue
        code = ord(character)
        if category in _UNSEEN or code in _NAMED:
            out.append((_NAMED.get(code, f"U+{code:04X}"), True))
        elif out and not out[-1][1]:
            out[-1] = (out[-1][0] + character, False)
        else:
            out.append((character, False))
    if len(caption) > most:
        out.append(("…", False))
    return out


def visible(caption: str) -> str:
    """Return a caption that cannot mislead a reader: cut, and with invisible characters named in brackets."""
    return "".join(f"[{text}]" if named else text for text, named in _pieces(caption))


def language_name(language: str) -> str:
    """Return a language, as somebody else named it, so that it can be seen and fits into an answer."""
    return visible(language[:MAX_LANGUAGE])[:MAX_LANGUAGE]


def masked(caption: str) -> str:
    """Return a caption without addresses and long numbers, which may be somebody's."""
    text = _NUMBER.sub("•••", _MAIL.sub("•••@•••", caption[:MASKED_OVER]))
    # Where this ends, half an address may stand, which no pattern knows.
    return text if len(caption) <= MASKED_OVER else text[:-LONGEST_ADDRESS] + "…"


def marked(caption: str) -> Markup:
    """Return a caption of somebody's as markup, without what may be personal; see `drawn`."""
    return drawn(masked(caption))


def drawn(text: str, most: int = MAX_CAPTION) -> Markup:
    """Return a text as markup: all escaped, cut, invisible characters drawn as named marks, direction isolated."""
    inner = Markup("").join(
        Markup('<b class="mark">{}</b>').format(piece) if named else escape(piece)
        for piece, named in _pieces(text, most)
    )
    return Markup('<bdi dir="auto">{}</bdi>').format(inner)


def share(part: float, whole: float) -> str:
    """Return a percentage with one decimal, or a dash where there is nothing to divide by."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def fine(part: float, whole: float) -> str:
    """Return a percentage with two decimals where it is small, or a dash."""
    return (f"{100 * part / whole:.2f} %" if part / whole < 0.1 else share(part, whole)) if whole else "–"


def signed(value: float, digits: int = 1, unit: str = " %") -> str:
    """Return a number with its sign, the minus a true one."""
    text = f"{abs(value):.{digits}f}{unit}"
    return f"{'−' if value < 0 else '+'}{text}"


def rows(count: float) -> str:
    """Return a count in three figures and a unit; below ten thousand in full."""
    sign, size = ("−", -count) if count < 0 else ("", count)
    if size < 10_000:
        return f"{sign}{size:,.0f}"
    for one, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= 0.9995 * one:
            number = size / one
            digits = 2 if number < 9.995 else 1 if number < 999.95 else 0
            return f"{sign}{number:.{digits}f} {unit}"
    return f"{sign}{size:,.0f}"


def lost(count: float) -> str:
    """Return a loss with a true minus; a dash where nothing was lost."""
    return f"−{rows(count)}" if count else "–"


def number(value: float) -> str:
    """Return a threshold or a signal as shortly as it can be written, the minus a true one."""
    return f"{value:.4g}".replace("-", "−")


def with_unit(value: float, unit: str) -> str:
    """Return a number with its unit, which is no plural after 1."""
    return f"{number(value)} {unit[:-1] if value == 1 and unit in _COUNTED else unit}".rstrip()


def distance(value: float) -> str:
    """Return how far a share is from another, relative to it; a factor where per cents would be large."""
    return f"{1 + value:.1f} times" if value >= 1 else signed(100 * value)


SOURCES = {
    "laion_en": "LAION-en",
    "laion_multi": "LAION-multi",
    "laion_coco": "LAION-COCO",
    "coyo": "COYO",
    "cc12m": "CC12M",
    "cc3m": "CC3M",
    "sbu": "SBU",
    "wukong": "Wukong",
}


def source_name(source: str) -> str:
    """Return a source's name as the paper writes it; other names stay as they are, cut at 80."""
    return SOURCES.get(source, visible(source[:80]))
