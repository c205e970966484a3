"""The curves of a training run as one page: loss and its terms, rate, gradient, speed; in light and in dark."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from stages.ref import Ref
from stages.report.svg import drawing, line, path, text

CURVES = "reports-live/curves.html"
"""Among the pages that hold times, which no manifest names."""
WIDTH, HEIGHT = 460.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 10.0, 10.0, 24.0
MOST_POINTS = 240
"""More steps than that are drawn as the mean of a few."""
DOTTED = 12
"""Up to so many points each has a dot."""
NO_CURVES = {"step", "rows_digest", "skipped"}
TERMS = ("loss", "itc", "itm", "itg")
WORDS = {
    "lr": "learning rate",
    "grad_norm": "gradient norm, before clipping",
    "samples_per_second": "samples per second",
    "tokens_per_second": "tokens per second",
    "data_wait": "share of time waiting for data",
    "mfu": "use of the measured matmul peak",
    "useful_share": "share that is no padding",
    "scale": "logit scale",
}
METERS = ("samples_per_second", "tokens_per_second", "data_wait", "mfu", "useful_share")

Points = list[tuple[float, float]]

STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1b1f23;--quiet:#667;--grid:#e3e6ea;--bad:#c0392b;
--c0:#1f6fb2;--c1:#b4560f;--c2:#2b8a5b;--c3:#8a4fa3}
@media (prefers-color-scheme:dark){:root{--page:#14171a;--ink:#e8eaed;--quiet:#9aa3ad;--grid:#2b3036;--bad:#ff7a6b;
--c0:#6cb2ef;--c1:#f0a35e;--c2:#6fd3a2;--c3:#cf9be6}}
body{margin:0 auto;max-width:1000px;padding:24px 16px;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:20px;margin:0 0 4px}p{margin:0 0 12px;color:var(--quiet)}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:20px}
figure{margin:0;min-width:0}figcaption{font-weight:600;font-size:14px}h1,p,figcaption{overflow-wrap:anywhere}
figcaption span{font-weight:400;margin-left:10px}
svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--quiet)}
.grid{stroke:var(--grid)}.end{text-anchor:end}.middle{text-anchor:middle}.bad{stroke:var(--bad)}
.s0,.s1,.s2,.s3{fill:none;stroke-width:1.8;stroke-linejoin:round}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}
.dot{stroke-width:6;stroke-linecap:round}
.t0{color:var(--c0)}.t1{color:var(--c1)}.t2{color:var(--c2)}.t3{color:var(--c3)}
"""


def curves_key(ref: Ref) -> str:
    """Return where a checkpoint's curves lie."""
    return ref.key(CURVES)


def page(
    name: str, history: Sequence[Mapping[str, float]], meters: Sequence[Mapping[str, Any]], lead: str = ""
) -> str:
    """Return the page.

    Args:
        name: Of the checkpoint.
        history: One record per step.
        meters: One record per look of `stages.training.meters`.
        lead: What is said below the title; how many steps there are when left out.
    """
    skipped = [row["step"] for row in history if row.get("skipped")]
    names = dict.fromkeys(key for row in history for key in row if key not in NO_CURVES)
    terms = [key for key in names if key in TERMS or key.endswith("_loss")]
    panels = [
        _panel("loss and its terms" if len(terms) > 1 else "loss", {n: _curve(history, n) for n in terms}, skipped)
    ]
    for key in ["lr", "grad_norm", *(n for n in names if n not in terms and n not in ("lr", "grad_norm"))]:
        panels.append(_panel(_words(key), {key: _curve(history, key)}, skipped, log=key == "grad_norm"))
    panels += [_panel(_words(key), {key: _curve(meters, key)}, []) for key in METERS]
    for kind in ("source", "language"):
        found = dict.fromkeys(k for row in meters for k in row.get("loss", {}) if k.startswith(f"{kind}/"))
        curves = {k.partition("/")[2]: _curve([{"step": r["step"], **r["loss"]} for r in meters], k) for k in found}
        panels.append(_panel(f"loss by {kind}", curves, []))
    told = lead or f"{len(history):,} steps"
    if skipped:
        told += f", {len(skipped)} of them skipped (red): training/flight.jsonl beside this page tells why"
    whole = Markup(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><title>Curves of {0}</title><style>{1}</style></head>'
        "<body><h1>{0}</h1><p>{2}</p><main>{3}</main></body></html>\n"
    )
    return str(whole.format(name, Markup(STYLE), told, Markup("").join(panels)))


def _tick(value: float) -> str:
    """Return a number of at most seven characters."""
    if abs(value) >= 1e6 or 0 < abs(value) < 0.01:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _words(key: str) -> str:
    return WORDS.get(key, key.replace("_", " "))


def _curve(rows: Sequence[Mapping[str, Any]], key: str) -> Points:
    """Return (step, value), at most `MOST_POINTS`."""
    points = [(float(row["step"]), float(row[key])) for row in rows if key in row and math.isfinite(row[key])]
    group = -(-len(points) // MOST_POINTS) or 1
    pieces = [points[start : start + group] for start in range(0, len(points), group)]
    return [(piece[-1][0], sum(value for _, value in piece) / len(piece)) for piece in pieces]


def _panel(title: str, curves: Mapping[str, Points], skipped: Sequence[float], *, log: bool = False) -> Markup:
    """Return one drawing with its title; nothing where there is nothing to draw."""
    shown = {name: points for name, points in curves.items() if points}
    if not shown:
        return Markup("")
    legend = Markup("")
    if len(shown) > 1:
        names = enumerate(shown)
        legend = Markup("").join(
            Markup('<span class="t{}">{}</span>').format(place % 4, name) for place, name in names
        )
    return Markup("<figure><figcaption>{}{}</figcaption>{}</figure>").format(
        title,
        legend,
        _drawn(title, shown, skipped, log and all(v > 0 for points in shown.values() for _, v in points)),
    )


def _drawn(title: str, curves: Mapping[str, Points], skipped: Sequence[float], log: bool) -> Markup:
    every = [point for points in curves.values() for point in points]
    first, last = min(x for x, _ in every), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)
    if log:
        low, high = math.log10(low), math.log10(high)
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)

    def across(x: float) -> float:
        if first == last:
            return (LEFT + WIDTH - RIGHT) / 2
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - first) / (last - first)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low)

    parts = []
    for tick in range(4):
        value = low + (high - low) * tick / 3
        parts.append(line(LEFT, up(value), WIDTH - RIGHT, up(value), "grid"))
        parts.append(text(LEFT - 6, up(value) + 4, _tick(10**value if log else value), "end"))
    for share, kind in ((0.5, "middle"),) if first == last else ((0.0, ""), (0.5, "middle"), (1.0, "end")):
        step = first + (last - first) * share
        parts.append(text(across(step), HEIGHT - 6, f"{step:,.0f}", kind))
    parts += [
        line(across(step), TOP, across(step), HEIGHT - BOTTOM, "bad")
        for step in skipped[:200]
        if first <= step <= last
    ]
    for place, points in enumerate(curves.values()):
        marks = [f"{across(x):.1f} {up(math.log10(y) if log else y):.1f}" for x, y in points]
        parts.append(path("M" + "L".join(marks), f"s{place % 4}"))
        # A line through one point is nothing, and through few it hides where they are.
        dots = marks if len(marks) <= DOTTED else ()
        parts += [path(f"M{mark}h0", f"s{place % 4} dot") for mark in dots]
    final = ", ".join(f"{name} {points[-1][1]:.4g}" for name, points in curves.items())
    return drawing(WIDTH, HEIGHT, f"{title} over steps; at the end: {final}", parts)
