"""Captions as the tokens that BLEU, ROUGE and CIDEr compare, without Java.

COCO's captions are scored after Stanford's PTBTokenizer, whose rules are those of the Penn Treebank, in lower case
and without punctuation. `words` follows them for what captions hold: of 106,129 English captions of COCO, Flickr8k
and Multi30k it gives other tokens for 11. Languages written without spaces are compared sign by sign, as is usual for
COCO-CN and Flickr30k-CN.
"""

import html
import re
import unicodedata

DROPPED = frozenset(["'", "`", '"', *".?!,:;。，！？：；、", "-", "--", "..", "..."])
"""Tokens that count nowhere, as COCO's scripts have it. Brackets stay: those scripts look for them in capitals, after
everything has become small, and equal numbers need the same slip."""
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
SIGN_BY_SIGN = frozenset(["zh", "ja", "th"])
_SIGN = re.compile(r"([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
_SHORT = (
    "adm|atty|ave|blvd|capt|cmdr|co|col|corp|dr|etc|ft|gen|gov|hon|inc|jr|lt|ltd|maj|messrs|mr|mrs|ms|mt|penn|prof|rd|"
    "calif|ct|dept|ky|rep|rev|sen|sgt|sr|st|vs|jan|feb|apr|aug|sept?|oct|nov|dec"
)
"""Abbreviations that keep their full stop."""
_SIMPLE = str.maketrans({"“": '"', "”": '"', "„": '"', "’": "'", "‘": "`", "–": "--", "—": "--", "…": "..."})
_DOTS = re.compile(r"\.{2,}")
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos);")
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))(?!\w)", re.IGNORECASE)
_TWO = re.compile(r"\b(?:(can)(not)|(gon|wan)(na)|(got)(ta)|(gim|lem)(me)|(y')(all))\b", re.IGNORECASE)
_TOKEN = re.compile(
    rf"""
    (?:https?://|www\.)\S*[^\s.,;:!?)]                   # addresses
  | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                         # of people
  | \#[^\W\d]\w*                                         # hashtags
  | (?:[A-Za-z]\.){{2,}}(?:[A-Za-z](?![\w.]))?            # U.S.
  | [A-Z]\.(?=\s+\S)                                     # initials
  | (?i:{_SHORT})\.(?!\w) | (?i:no)\.(?=\s*\d) | (?i:y'(?=\sall\b))
  | (?i:n't|'(?:s|m|d|re|ve|ll))(?!\w)
  | \d+(?:[,.:/]\d+)*\w*(?:-\w+)*                         # 2:25, 1/2, 3rd, 12-inch
  | [^\W\d_](?:\w|[&/'.-](?=\w))*                        # words, and what joins their parts
  | \.{{2,}} | [!?]+ | -+ | \S
    """,
    re.VERBOSE,
)


def words(caption: str, language: str = "en") -> list[str]:
    """Return the tokens of a caption that count.

    Args:
        caption: One sentence or several.
        language: Of `SIGN_BY_SIGN`, each sign is a token; all others are taken as English.
    """
    # Accents are one sign in one text and two in another.
    caption = unicodedata.normalize("NFC", caption)
    text = _DOTS.sub("...", _ENTITY.sub(lambda found: html.unescape(found.group()), caption).translate(_SIMPLE))
    if language in SIGN_BY_SIGN:
        text = _SIGN.sub(r" \1 ", text)
    text = _TWO.sub(lambda found: " ".join(part for part in found.groups() if part), _CLITIC.sub(r" \1", text))
    found = (BRACKETS.get(token, token.lower()) for token in _TOKEN.findall(text))
    return [token for token in found if token not in DROPPED]
