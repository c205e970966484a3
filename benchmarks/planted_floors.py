"""Floors of precision and recall, rule by rule, and the page that shows them beside what drawn webs gave."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stages.planted import Counts, fraction

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "planted.md"
MARGIN = 0.03
"""How far each floor lies below the worst web: about two rows where fewest are planted, or hit."""


class Floor(NamedTuple):
    """What a rule may not fall below; None where a web plants nothing for it, or it hits nothing."""

    precision: float | None
    recall: float | None = None


FLOORS = {
    "aesthetic": Floor(0.97, 0.97),
    "aspect": Floor(0.97, 0.97),
    "boilerplate": Floor(0.97, 0.97),
    "caption_frequency": Floor(0.97, 0.97),
    "caption_length": Floor(0.97, 0.97),
    "clip_similarity": Floor(0.95, 0.86),
    "completeness": Floor(0.97, 0.97),
    "digit_share": Floor(0.97),
    "duplicates": Floor(0.97, 0.97),
    "eval_overlap": Floor(0.55, 0.95),
    "filename": Floor(0.97),
    "gibberish": Floor(0.97, 0.97),
    "keyword_stuffing": Floor(0.97, 0.97),
    "length_units": Floor(0.97),
    "letter_share": Floor(0.97),
    "min_side": Floor(0.97, 0.97),
    "offensive": Floor(0.97, 0.97),
    "placeholder": Floor(0.97, 0.97),
    "readability": Floor(0.97),
    "repetition": Floor(0.97),
    "soft_404": Floor(0.97),
    "source_code": Floor(0.97, 0.97),
    "special_characters": Floor(0.97, 0.97),
    "unsafe": Floor(0.97, 0.97),
    "watermark": Floor(0.97, 0.97),
}
"""Rules that are not here hit no row of any of the webs, and may not hit a clean one."""
OTHERS = Floor(0.97)


def fallen(table: Mapping[str, Counts], margin: float = 0.0) -> list[str]:
    """Return a sentence for each rule that is not above its floors by a margin."""
    found = []
    for rule, each in table.items():
        floor = FLOORS.get(rule, OTHERS)
        for name, part, of in (("precision", "right", "hits"), ("recall", "found", "planted")):
            lowest, value = getattr(floor, name), each[name]
            if lowest is not None and value is not None and value < lowest + margin:
                share = f"{value:.4f} ({each[part]} of {each[of]})"
                found.append(f"{name} of {rule} is {share}, its floor {lowest} and a margin of {margin:g}")
    return found


def page(result: Mapping[str, Any]) -> str:
    """Return the page about a result of `benchmarks.planted`."""
    seeds: Mapping[str, Mapping[str, Counts]] = result["seeds"]
    rules = sorted({rule for table in seeds.values() for rule in table})
    lines = [
        INTRODUCTION.format(margin=MARGIN, rows=sum(result["rows"].values()), seeds=len(seeds)),
        "| rule | " + " | ".join(f"web {seed}: planted, hits | precision | recall" for seed in seeds) + " | floors |",
        "| :-- |" + " --: | --: | --: |" * len(seeds) + " --: |",
    ]
    quiet = []
    for rule in rules:
        if not any(table[rule]["planted"] or table[rule]["hits"] for table in seeds.values()):
            quiet.append(f"`{rule}`")
            continue
        cells = [
            f"{each['planted']:,}, {each['hits']:,} | {fraction(each['precision'])} | {fraction(each['recall'])}"
            for each in (table[rule] for table in seeds.values())
        ]
        floor = FLOORS.get(rule, OTHERS)
        floors = ", ".join(f"{each:g}" for each in floor if each is not None)
        lines.append(f"| `{rule}` | {' | '.join(cells)} | {floors} |")
    return "\n".join([*lines, "", f"Nothing is planted for {', '.join(quiet)}, and they hit nothing.", ""])


INTRODUCTION = """# Rules against what drawn webs plant

The tiny recipe downloads from a web that it draws itself, and so knows of each row what is wrong with it. This page
is written by `python -m benchmarks planted`: {seeds} webs of {rows:,} rows, each listed, downloaded, scored and
judged by the steps of that recipe, with a filtering network of its own. All rules of both policies see every picture
that was fetched; sources that are exempt from the strict policy are judged by the light one alone. A hit is right
where any dirt was planted, because a rule may rightly take what was planted for another; found are rows that were
planted for the rule itself. A dash stands where nothing was planted or nothing was hit.

Floors lie at least {margin:g} below the worst web, precision before recall. A fast test holds the caption rules of
one web to them, and one of `make test-slow` all rules of all webs; a rule that is broken makes the fast one fail.

Drawn dirt is plain: numbers near 1 say that a rule does what it is meant to, not that the web's own dirt is found as
well. How the caption rules do on real captions is on [another page](caption-labels.md). The two rules on embeddings
depend on what a network of 90 steps has learned. `eval_overlap` also takes pictures that only look like an evaluation
picture, at most one in five hundred: it errs towards dropping. Networks are trained on samples in the order of their
content, so the same web gives the same numbers again on the same kind of processor. One that rounds otherwise trains
another network: of those that met the same samples in other orders the worst had a precision of 0.62, and the floor
lies below it, not below the worst of this table.
"""
