"""Numbers and lines of an evaluation as people read them: on its page, in a terminal, in Markdown."""

from stages.evaluation_metrics import Measure
from stages.evaluations.registry import Reported
from stages.evaluations.views import Board, Line

OTHER_WAY = "not the paper's settings, so no difference is told"
SHARE_UP_TO = 3.0
"""A published number up to here is a share (CIDEr goes beyond 1); larger ones are points, as MME's."""


def said(value: float | None, unit: str = "%") -> str:
    """Return a number as people read it."""
    if value is None:
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3f}"


def signed(value: float | None, unit: str = "%") -> str:
    """Return a difference with its sign, shares in points of percent."""
    if value is None:
        return "–"
    text = f"{100 * abs(value):.1f}" if unit == "%" else said(abs(value), unit)
    return f"{'−' if value < 0 else '+'}{text}"


def paper_unit(reported: Reported) -> str:
    """Return the unit of a published number."""
    return "%" if abs(reported.value) <= SHARE_UP_TO else ""


def markdown(board: Board) -> str:
    """Return the measured lines as one short table."""
    head = [
        "| task | benchmark | language | measure | ours | 95 % interval | paper | difference |",
        "| :-- | :-- | :-- | :-- | --: | :-- | --: | --: |",
    ]
    rows = [
        f"| {each.task} | {_plain(each.titled)} | {each.language} | {each.metric.replace('_', ' ')} | "
        f"{said(each.ours.value, each.ours.unit)} | {interval(each.ours)} | {paper(each)} | "
        f"{signed(each.difference, each.ours.unit)} |"
        for each in board.lines
        if each.ours is not None
    ]
    tail = f"{board.measured} of {board.rows} rows were measured; the page says of each other one why it was not."
    leaked = [f"{each.benchmark}: {each.said}" for each in board.leaks if each.trained]
    other = [f"{each[0].upper()}{each[1:]}." for each in departed(board)]
    return "\n".join([*head, *rows, "", tail, *map(_plain, other), *(f"Trained on it: {each}." for each in leaked)])


def departed(board: Board) -> list[str]:
    """Return sentences about the rows that were not measured as the paper did, or as a user's description says."""
    alike: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    for line in board.lines:
        names = alike.setdefault((line.paper is not None, line.departures), [])
        if line.name not in names:
            names.append(line.name)
    return [
        f"{OTHER_WAY if published else 'not as described'}: {', '.join(names)}: {'; '.join(departures)}"
        for (published, departures), names in alike.items()
        if departures
    ]


def _plain(text: str) -> str:
    """Return a title so that it is no markup."""
    return "".join(f"&#{ord(character)};" if character in "<>&|*_`[]" else character for character in text)


def interval(measure: Measure) -> str:
    """Return the bounds of a measure, their unit told once."""
    low, high = said(measure.low, measure.unit), said(measure.high, measure.unit)
    return f"{low.removesuffix(' %')} to {high}"


def paper_number(line: Line) -> str:
    """Return the paper's number."""
    if line.paper is None:
        return "–"
    return said(line.paper.value, line.ours.unit if line.ours else paper_unit(line.paper))


def paper(line: Line) -> str:
    """Return the paper's number, and whose it is and where it stands unless the model is of the same kind."""
    other = other_model(line)
    return paper_number(line) + (f" ({other})" if other else "")


def other_model(line: Line) -> str:
    """Return whose number stands beside ours and where it is published; nothing where it is our kind of model."""
    return f"{line.paper.model}; {line.paper.source}" if line.paper and not line.own_model else ""
