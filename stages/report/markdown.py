"""The short version for an artifact of Prefect: numbers and words of closed lists only, nothing remote."""

import re

from stages.report import rules
from stages.report.model import Page, verdict_of
from stages.report.paper import State
from stages.report.rows import summed
from stages.report.text import distance, fine, source_name
from stages.report.text import rows as short
from stages.report.views import ladder_of
from stages.report.what_if import plain, rule_of

MOST_BYTES = 200_000
BLOCKS = 24
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-!|<>~&])")
_MARKS = {State.OK: "✓", State.OFF: "✕", State.UNSURE: "?"}


def escaped(text: str) -> str:
    """Return text that markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _bar(part: int, whole: int) -> str:
    return "█" * round(BLOCKS * part / whole) if whole else ""


def markdown_of(page: Page) -> str:
    """Return verdict, ladder, targets, alarms, the command, and the rules folded away."""
    verdict = verdict_of(page)
    names = " and ".join(source_name(s.source) for s in page.sources) if len(page.sources) < 3 else "all sources"
    steps = summed(list(page.sources))
    listed = steps["listed"] or 0
    lines = [
        f"### {escaped(names)}, {escaped(page.policy.name)}: {verdict.state}",
        "",
        escaped(verdict.title) + ".",
        "",
    ]
    lines += ["| step | rows | of listed | paper | |", "| :-- | --: | --: | --: | :-- |"]
    for rung in ladder_of(page):
        bar = _bar(steps[rung["name"]] or 0, listed)
        lines.append(f"| {rung['name']} | {rung['full']} | {rung['of_listed']} | {rung['paper']} | {bar} |")
    if verdict.targets:
        lines += ["", "| against the paper | ours | paper | distance | |", "| :-- | --: | --: | --: | :-- |"]
        for each in verdict.targets:
            paper = f"≥ {100 * each.rounding[0]:.1f} %" if each.distance is None else f"{100 * each.paper:.2f} %"
            far = distance(each.distance) if each.distance is not None else "–"
            mark = "drawn source" if page.is_drawn else f"{_MARKS[each.state]} {each.state}"
            name = f"{escaped(source_name(each.source))}, {each.what}"
            lines.append(f"| {name} | {100 * each.ours:.2f} % | {paper} | {far} | {mark} |")
    if verdict.alarms:
        marks = {"alarm": "✕", "unsure": "?", "warning": "!"}
        lines += [
            "",
            *(
                f"{n}. {marks[a.severity]} {escaped(a.plain or a.sentence)}"
                for n, a in enumerate(verdict.alarms[:20], 1)
            ),
        ]
    lines += ["", f"Next: {escaped(verdict.next_move)}"]
    for step in verdict.proposals:
        source = next(s for s in page.sources if s.source == step.source)
        change = f"policy.{step.rule}.{rule_of(source, step.rule).threshold}={plain(step.threshold)}"
        if apply := page.applying.get(step.source):
            lines += ["", "```", apply.command(step.source, [change], page.tuned), "```"]
    lines += _rules(page)
    text = "\n".join(lines) + "\n"
    if len(text.encode()) > MOST_BYTES:
        text = (
            text.encode()[: MOST_BYTES - 100].decode("utf-8", "ignore").rpartition("\n")[0]
            + "\n\ncut; see the page\n"
        )
    return text


def _rules(page: Page) -> list[str]:
    funnel, rows = page.funnel, page.funnel.samples
    if not page.policy.filters:
        return ["", "The source passes this step whole, as in the paper."]
    lines = ["", "<details><summary>Rules, shares of rows judged</summary>", ""]
    lines += ["| rule | threshold | total | alone | not computed |", "| :-- | :-- | --: | --: | --: |"]
    ordered = sorted(page.policy.filters, key=lambda rule: (-funnel.total(rule.reason), rule.reason))
    for rule in ordered:
        total, alone = funnel.total(rule.reason), funnel.alone(rule.reason)
        lines.append(
            f"| {escaped(rule.reason)} | {escaped(rules.condition(rule))} | {fine(total, rows)} "
            f"| {fine(alone, rows)} | {short(funnel.unknown.get(rule.reason, 0))} |"
        )
    return [*lines, "", "</details>"]
