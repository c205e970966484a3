"""One picture of the funnel: rows listed, fetched, clean and of caption quality, beside the paper's numbers.

`python -m stages.funnel_drawing tiny docs/images/funnel.svg` draws it again from what stands in the store.
"""

import argparse
import html
import sys
from pathlib import Path

from filters.funnel import PAPER, PAPER_TOTAL
from infra.settings import settings
from infra.storage import Store
from stages.errors import Missing
from stages.manifest import ManifestError, load
from stages.ref import Ref

Counts = tuple[int, int, int, int]
"""Rows listed, fetched, clean, of caption quality."""

WIDTH, LEFT, BAR = 900, 140, 230
RIGHT = LEFT + BAR + 150
STEPS = ("listed", "fetched", "clean", "caption quality")
STYLE = """
.card{fill:#fff}.ink{fill:#15202b}.soft{fill:#475464}.back{fill:#e6eaee}.kept{fill:#0e6b80}.paper{fill:#bf5b36}
text{font:13px system-ui,sans-serif}.title{font-size:16px;font-weight:600}.small{font-size:12px}.n{text-anchor:end}
@media (prefers-color-scheme:dark){.card{fill:#182028}.ink{fill:#e8edf2}.soft{fill:#b3bfcb}.back{fill:#2c3742}
.kept{fill:#4fb3c6}.paper{fill:#e58a66}}
"""


def count_sources(store: Store, version: str) -> dict[str, Counts]:
    """Return the four counts of each source of a finished run.

    Raises:
        ManifestError: A step of it does not stand, or there is no such run.
    """
    found: dict[str, Counts] = {}
    for source in store.folders("pool"):
        if not store.exists(f"pool/{source}/{version}/manifest.json"):
            continue
        names = (f"pool/{source}", f"verdicts/clean/{source}", f"verdicts/caption_quality/{source}")
        pool, clean, quality = (load(store, Ref(name=name, version=version)).ledger for name in names)
        found[source] = (pool.listed, pool.kept, clean.kept, quality.kept)
    if not found:
        raise Missing(f"{store.root} holds no pool of version {version!r}", "pool", version)
    return found


def _text(x: float, y: float, text: str, kind: str = "ink") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{html.escape(text)}</text>'


def _bar(x: float, y: float, share: float, kind: str, height: float = 16) -> str:
    back = f'<rect class="back" x="{x:g}" y="{y:g}" width="{BAR}" height="{height:g}" rx="2"/>'
    return back + f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{BAR * share:.1f}" height="{height:g}" rx="2"/>'


def _steps(counts: Counts) -> list[str]:
    million = PAPER_TOTAL[0], None, PAPER_TOTAL[1], PAPER_TOTAL[2]
    out = [
        _text(LEFT, 62, "InternVL, Table 2 (arXiv 2312.14238)", "soft"),
        _text(RIGHT, 62, "this run", "soft"),
    ]
    for number, (name, theirs, ours) in enumerate(zip(STEPS, million, counts, strict=True)):
        y = 76 + 30 * number
        out.append(_text(24, y + 13, name))
        if theirs is None:
            out.append(_text(LEFT, y + 13, "not published", "soft small"))
        else:
            share = theirs / PAPER_TOTAL[0]
            out += [
                _bar(LEFT, y, share, "paper"),
                _text(LEFT + BAR + 8, y + 13, f"{theirs / 1000:.2f} B · {share:.1%}"),
            ]
        share = ours / counts[0]
        out += [_bar(RIGHT, y, share, "kept"), _text(RIGHT + BAR + 8, y + 13, f"{ours:,} · {share:.1%}")]
    return out


def _sources(sources: dict[str, Counts], top: float) -> list[str]:
    out = [
        _text(24, top, "kept, of listed", "soft"),
        _text(LEFT, top, "clean", "soft"),
        _text(RIGHT, top, "caption quality", "soft"),
    ]
    for number, (name, counts) in enumerate(sources.items()):
        y = top + 12 + 26 * number
        out.append(_text(24, y + 11, name))
        paper = PAPER.get(name)
        for x, step, column in ((LEFT, 2, 1), (RIGHT, 3, 2)):
            share = counts[step] / counts[0]
            out.append(_bar(x, y, share, "kept", 12))
            words = f"{share:.1%}"
            if paper:
                theirs = paper[column] / paper[0]
                at = x + BAR * theirs
                out.append(f'<path class="paper" d="M{at:.1f} {y - 3}l6 9l-6 9l-6 -9z"/>')
                words += f" ◇ {theirs:.1%}"
            out.append(_text(x + BAR + 8, y + 11, words, "ink small"))
    return out


def draw(sources: dict[str, Counts], title: str) -> str:
    """Return the picture as SVG: shares of listed rows, ours in teal, the paper's in rust."""
    first, second, third, fourth = (sum(each[n] for each in sources.values()) for n in range(4))
    top = 76 + 30 * len(STEPS) + 30
    height = top + 26 * len(sources) + 48
    body = [
        f'<rect class="card" width="{WIDTH}" height="{height}" rx="8"/>',
        _text(24, 34, title, "ink title"),
        *_steps((first, second, third, fourth)),
        *_sources(sources, top),
        _text(
            24,
            height - 16,
            "◇ the paper's share of the same source; it gives no thresholds, ours are ours",
            "soft small",
        ),
    ]
    label = f"{title}: {first:,} listed, {second:,} fetched, {third:,} clean, {fourth:,} of caption quality"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{html.escape(label)}"><style>{STYLE}</style>{"".join(body)}</svg>\n'
    )


def main(arguments: list[str] | None = None) -> int:
    """Draw a finished run's funnel; return 2 with one sentence where there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="version of the run, such as tiny")
    parser.add_argument("target", type=Path, help="the SVG file to write")
    parser.add_argument("--store", default=settings().store_root)
    given = parser.parse_args(arguments)
    try:
        sources = count_sources(Store(given.store), given.version)
    except ManifestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    given.target.parent.mkdir(parents=True, exist_ok=True)
    given.target.write_text(
        draw(sources, f"From listed rows to training data: recipe {given.version}"), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
