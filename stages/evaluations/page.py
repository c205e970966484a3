"""The results page: one self-contained HTML with every benchmark of the paper, measured or not."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from stages.evaluations.registry import Benchmark
from stages.evaluations.row_views import Measured, detail
from stages.evaluations.views import Board, Line
from stages.evaluations.wording import interval, other_model, paper_number, paper_unit, said, signed
from stages.report.page import asset, environment
from stages.report.svg import diamond, drawing, line, rect

_WIDTH = 130.0


def results_page(
    *,
    title: str,
    model: str,
    board: Board,
    measured: Sequence[Measured],
    provenance: Mapping[str, str],
) -> str:
    """Return the page; whatever datasets and models say is escaped, and only our own script runs.

    Args:
        title: The checkpoint's reference.
        model: What the paper calls this kind of model.
        board: The lines of the table.
        measured: The rows that were measured, in the order of the table.
        provenance: Where the numbers come from, by name.
    """
    style, style_hash = asset("filter_report.css", "results.css")
    script, script_hash = asset("results.js")
    return (
        environment()
        .get_template("results.html.j2")
        .render(
            style=style,
            style_hash=style_hash,
            script=script,
            script_hash=script_hash,
            title=title,
            model=model,
            board=board,
            groups=_groups(board.lines),
            languages=_languages(board.lines),
            missing=[_missing(each) for each in board.missing.values()],
            leaks=board.leaks,
            leaked=sum(each.trained > 0 for each in board.leaks),
            unchecked=sum(not each.checked for each in board.leaks),
            details=[_detailed(each, board.line(each.result.name)) for each in measured],
            provenance=dict(provenance),
        )
    )


def _detailed(measured: Measured, first: Line) -> dict[str, Any]:
    return {**detail(measured), "task": first.task, "way": first.way, "published": first.paper is not None}


def _groups(lines: Iterable[Line]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the lines by task; tasks of which something was measured stand before those of which nothing was."""
    found: dict[str, list[Line]] = {}
    for each in lines:
        found.setdefault(each.task, []).append(each)
    tasks = sorted(found.items(), key=lambda one: all(each.ours is None for each in one[1]))
    return [(task, [_view(each) for each in some]) for task, some in tasks]


def _view(each: Line) -> dict[str, Any]:
    ours, unit = each.ours, each.ours.unit if each.ours else "%"
    return {
        "id": each.name,
        "benchmark": each.benchmark,
        "language": each.language,
        "way": each.way,
        "metric": each.metric.replace("_", " "),
        "ours": said(ours.value, unit) if ours else "",
        "sort_ours": ours.value if ours else "",
        "interval": interval(ours) if ours else "",
        "n": ours.n if ours else "",
        "bar": _bar(each),
        "paper": paper_number(each),
        "paper_model": other_model(each),
        "paper_title": f"{each.paper.model}, {each.paper.source}" if each.paper else "",
        "sort_paper": each.paper.value if each.paper else "",
        "difference": signed(each.difference, unit) if each.paper and ours else "",
        "departures": "; ".join(each.departures),
        "published": each.paper is not None,
        "sort_difference": each.difference if each.difference is not None else "",
        "why": each.why,
    }


def _bar(each: Line) -> Markup | None:
    """Return ours with its interval on a scale of shares, the paper's as ◇, chance as a dashed line."""
    ours = each.ours
    if ours is None or ours.unit != "%":
        return None
    highest = max(1.0, ours.high, each.paper.value if each.paper else 0.0)

    def at(value: float) -> float:
        return _WIDTH * min(max(value / highest, 0.0), 1.0)

    parts = [rect(0, 5, at(ours.value), 8, "kept", 2), line(at(ours.low), 9, at(ours.high), 9, "threshold")]
    words = f"ours {said(ours.value)}, {interval(ours)}"
    if ours.chance is not None:
        parts.append(line(at(ours.chance), 1, at(ours.chance), 17, "whole"))
        words += f", chance {said(ours.chance)}"
    if each.paper and paper_unit(each.paper) == "%":
        parts.append(diamond(min(max(at(each.paper.value), 5), _WIDTH - 5), 9, 4))
        words += f", paper {said(each.paper.value)}"
    return drawing(_WIDTH, 18, words, parts, "against")


def _languages(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return the lines of benchmarks that are measured in several languages, language beside language."""
    spoken: dict[tuple[str, str, str], list[Line]] = {}
    for each in lines:
        spoken.setdefault((each.task, each.name.split(".")[0], each.metric), []).append(each)
    several = [
        some
        for some in spoken.values()
        if len({each.language for each in some}) > 1 and any(each.ours is not None for each in some)
    ]
    return [_view(each) for some in several for each in sorted(some, key=lambda one: one.language)]


def _missing(spec: Benchmark) -> dict[str, str]:
    return {
        "name": spec.name,
        "title": spec.title,
        "homepage": spec.homepage,
        "licence": spec.licence,
        "fetch": spec.get,
        "examples": f"{spec.examples:,}" if spec.examples else "",
    }
