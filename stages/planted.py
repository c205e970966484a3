"""Precision and recall against what a source planted: it knows the truth about each of its rows."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stages.manifest import Manifest
from stages.sources.identity import uid_of
from stages.sources.web_site import SiteSpec, plan_site

Counts = dict[str, Any]
"""planted, hits, right (hits that are deserved), found (planted rows that were hit); precision and recall,
None where there was nothing to be right or wrong about."""


class Line(NamedTuple):
    """All labels of one artifact, pooled."""

    artifact: str
    planted: int
    hits: int
    precision: float | None
    recall: float | None


def counts(planted: int, hits: int, right: int, found: int) -> Counts:
    """Return one label's counts with its precision and recall."""
    return {
        "planted": planted,
        "hits": hits,
        "right": right,
        "found": found,
        "precision": round(right / hits, 4) if hits else None,
        "recall": round(found / planted, 4) if planted else None,
    }


def fraction(value: float | None) -> str:
    """Return a precision or recall as text, a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def planted_outcomes(truth: SiteSpec, source: str) -> dict[bytes, str]:
    """Return the outcome that each listed row of a source should end in, by uid."""
    rows = plan_site(truth.only(source)).to_pylist()
    return {uid_of(source, row["url"], row["caption"]): row["outcome"] for row in rows}


def planted_dirt(truth: SiteSpec, source: str) -> dict[bytes, set[str]]:
    """Return the rules that should take each listed row of a source, by uid."""
    dirt: dict[bytes, set[str]] = {}
    for row in plan_site(truth.only(source)).to_pylist():
        dirt.setdefault(uid_of(source, row["url"], row["caption"]), set()).update(row["dirt"])
    return dirt


def judge_outcomes(planned: Mapping[bytes, str], seen: Mapping[bytes, str]) -> dict[str, Counts]:
    """Compare outcomes row by row; a hit is right only where exactly this outcome was planted."""
    result = {}
    for outcome in sorted({*planned.values(), *seen.values()}):
        there = {uid for uid, name in planned.items() if name == outcome}
        hit = {uid for uid, name in seen.items() if name == outcome}
        result[outcome] = counts(len(there), len(hit), len(hit & there), len(hit & there))
    return result


def judge_rules(
    dirt: Mapping[bytes, set[str]], seen: Mapping[bytes, set[str]], rules: Iterable[str]
) -> dict[str, Counts]:
    """Compare verdicts row by row.

    A hit is right on a row with any planted dirt, because a rule may rightly take what was planted
    for another one; only rows planted for the rule itself count as found.
    """
    result = {}
    for rule in rules:
        there = {uid for uid in seen if rule in dirt.get(uid, ())}
        hit = {uid for uid, reasons in seen.items() if rule in reasons}
        right = sum(bool(dirt.get(uid)) for uid in hit)
        result[rule] = counts(len(there), len(hit), right, len(hit & there))
    return result


def added(tables: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """Return the counts of several sources, or of several runs, as one table; label by label."""
    sums: dict[str, list[int]] = {}
    for labels in tables:
        for name, each in labels.items():
            one = [each[key] for key in ("planted", "hits", "right", "found")]
            sums[name] = [a + b for a, b in zip(sums.get(name, [0] * 4), one, strict=True)]
    return {name: counts(*four) for name, four in sorted(sums.items())}


def pooled(artifact: str, labels: Mapping[str, Counts], leave_out: str = "fetched") -> Line:
    """Return all labels as one line: precision over all hits, recall over all planted rows."""
    kept = [each for name, each in labels.items() if name != leave_out]
    planted, hits, right, found = (int(sum(each[k] for each in kept)) for k in ("planted", "hits", "right", "found"))
    whole = counts(planted, hits, right, found)
    return Line(artifact, planted, hits, whole["precision"], whole["recall"])


def planted_summary(manifests: Iterable[Manifest]) -> list[Line]:
    """Return one line per artifact that was compared with a planted truth, in the order given."""
    return [pooled(m.ref.name, m.totals["planted"]) for m in manifests if m.totals.get("planted")]


def markdown(labels: Mapping[str, Counts]) -> str:
    """Return the comparison as a markdown table, pooled line last."""
    lines = ["| planted | rows | seen | precision | recall |", "| :-- | --: | --: | --: | --: |"]
    for name, each in labels.items():
        shares = f"{fraction(each['precision'])} | {fraction(each['recall'])}"
        lines.append(f"| {name} | {each['planted']:,} | {each['hits']:,} | {shares} |")
    whole = pooled("", labels)
    shares = f"**{fraction(whole.precision)}** | **{fraction(whole.recall)}**"
    lines.append(f"| **pooled** | {whole.planted:,} | {whole.hits:,} | {shares} |")
    return "\n".join(lines) + "\n"
