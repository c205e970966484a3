"""The pages of a download: where listed rows went, what each outcome means, which hosts decide the result.

The page that the manifest names holds counts alone, so the same list gives the same bytes however many
workers fetched it. How long hosts took differs from run to run: it stands on a page beside the manifest,
under `reports-live/`, which the first one links to.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.download_hosts import refusing, refusing_times, slowest
from stages.download_price import Pace, Price, Whole, price
from stages.download_tally import Tally, tally
from stages.filter_report import TEMPLATES, share, visible
from stages.manifest import Manifest, Part
from stages.outcome import TRANSIENT, Outcome
from stages.outcome_words import LADDER, OPT_OUTS, WORDS, class_of, ladder, unlisted
from stages.quantities import duration, gigabytes
from stages.workspace import Output, Workspace

BAR = 400
LIVE = "reports-live/hosts.html"
_ORDER = ("kept", "may come back", "failed", "rejected")


def rungs(listed: int, outcomes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the ladder from listed to decodable, each rung with its definition and its shares."""
    rows = ladder(listed, outcomes)
    steps, before = [], listed
    for rung in LADDER:
        at = rows[rung.name]
        steps.append(
            {
                "name": rung.name,
                "definition": rung.definition,
                "rows": at,
                "lost": before - at,
                "of_listed": share(at, listed),
                "of_before": share(at, before),
                "width": round(BAR * at / max(listed, 1), 1),
                "loss": round(BAR * before / max(listed, 1), 1),
            }
        )
        before = at
    return steps


def outcome_rows(listed: int, outcomes: Mapping[str, int], refused: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return one row per outcome, by class and then by rows; what the listing refused comes last."""
    most = max(outcomes.values(), default=1)
    rows = [
        {
            "outcome": name.replace("_", " "),
            "kind": class_of(Outcome(name)),
            "rows": count,
            "share": share(count, listed),
            "width": round(BAR * (count / most) ** 0.5, 1),
            "meaning": WORDS[Outcome(name)].meaning,
            "next_move": WORDS[Outcome(name)].next_move,
        }
        for name, count in outcomes.items()
        if count
    ]
    rows.sort(key=lambda row: (_ORDER.index(str(row["kind"])), -int(str(row["rows"])), str(row["outcome"])))
    for reason, count in sorted(refused.items(), key=lambda item: (-item[1], item[0])):
        rows.append(
            {
                "outcome": reason.replace("_", " "),
                "kind": "rejected",
                "rows": count,
                "share": share(count, listed),
                "width": round(BAR * min(1.0, (count / most) ** 0.5), 1),
                "meaning": unlisted(reason)[0],
                "next_move": unlisted(reason)[1],
            }
        )
    return rows


def opt_outs(outcomes: Mapping[str, int], refused: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the rows that somebody does not want to be taken, by where it was said."""
    rows = {where: outcomes.get(outcome, 0) for outcome, where in OPT_OUTS}
    blocked = dict(OPT_OUTS)[Outcome.BLOCKED]
    # Addresses and domains on a block list are not even listed; hashes are met at the download.
    rows[blocked] += sum(count for reason, count in refused.items() if reason.startswith("blocked"))
    return list(rows.items())


def passes(found: Tally) -> list[dict[str, Any]]:
    """Return rows by the pass that gave their outcome; nothing where there was only one pass."""
    by_pass: dict[int, dict[str, int]] = {}
    for row in found.rows.to_pylist():
        counts = by_pass.setdefault(row["attempt"] or 1, {})
        counts[row["outcome"]] = counts.get(row["outcome"], 0) + row["rows"]
    if len(by_pass) < 2 and max(by_pass, default=1) == 1:
        return []
    return [
        {
            "number": number,
            "rows": sum(counts.values()),
            "fetched": counts.get(Outcome.FETCHED, 0),
            "share": share(counts.get(Outcome.FETCHED, 0), sum(counts.values())),
            "may_come_back": sum(counts.get(outcome, 0) for outcome in TRANSIENT),
        }
        for number, counts in sorted(by_pass.items())
    ]


def _page(template: str, **values: Any) -> bytes:
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["visible"] = visible
    environment.filters["gigabytes"] = gigabytes
    environment.filters["duration"] = duration
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "download.css"))
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = environment.get_template(template).render(style=Markup(style), style_hash=style_hash, bar=BAR, **values)
    return page.encode()


def _headline(listed: int, outcomes: Mapping[str, int]) -> str:
    fetched, later = outcomes.get(Outcome.FETCHED, 0), sum(outcomes.get(each, 0) for each in TRANSIENT)
    attempted = ladder(listed, outcomes)["attempted"]
    text = f"{share(fetched, attempted)} of the rows that were asked for gave a picture."
    if later:
        text += f" {later:,} rows failed in a way that can pass: a later pass asks for them again."
    return text


def _whole(source: str, pilot: Mapping[str, Any], found: Tally) -> Price | None:
    """Return what the list would cost that a pilot was drawn from; without hours, which depend on clocks."""
    return price(source, Whole(**pilot["whole"]), found, Pace(), 1, 0) if "whole" in pilot else None


def render(*, source: str, listing: Manifest, found: Tally, provenance: Mapping[str, str]) -> bytes:
    """Return the page of counts; names of hosts and reasons come from outside and are escaped."""
    listed, outcomes = listing.ledger.listed, found.outcomes
    refused = listing.totals.get("rejected", {})
    said = opt_outs(outcomes, refused)
    return _page(
        "download_report.html.j2",
        source=source,
        listed=listed,
        fetched=outcomes.get(Outcome.FETCHED, 0),
        headline=_headline(listed, outcomes),
        steps=rungs(listed, outcomes),
        outcomes=outcome_rows(listed, outcomes, refused),
        hosts=refusing(found.hosts),
        opt_outs=[(where, count, share(count, listed)) for where, count in said],
        rows=sum(outcomes.values()),
        urls=found.urls,
        bytes_in=found.bytes_in,
        bytes_out=found.bytes_out,
        passes=passes(found),
        later=sum(outcomes.get(each, 0) for each in TRANSIENT),
        whole=_whole(source, listing.totals, found),
        live=f"../{LIVE}",
        provenance=provenance,
    )


def render_live(*, source: str, found: Tally, seen: Mapping[str, Any]) -> bytes:
    """Return the page of times: the slowest hosts, the pace, and the pauses."""
    return _page(
        "download_hosts.html.j2",
        source=source,
        hosts=slowest(found),
        refusing=refusing_times(found),
        seen=seen,
        urls=found.urls,
    )


def markdown(source: str, listed: int, found: Tally) -> str:
    """Return the same story for an artifact: numbers and closed-list words only, no name of a host."""
    outcomes = found.outcomes
    lines = [f"### {source}: download", "", _headline(listed, outcomes), ""]
    lines += ["| step | rows | of listed | of step before |", "| :-- | --: | --: | --: |"]
    for step in rungs(listed, outcomes):
        lines.append(f"| {step['name']} | {step['rows']:,} | {step['of_listed']} | {step['of_before']} |")
    lines += ["", "| outcome | class | rows | of listed |", "| :-- | :-- | --: | --: |"]
    lines += [
        f"| {row['outcome']} | {row['kind']} | {row['rows']:,} | {row['share']} |"
        for row in outcome_rows(listed, outcomes, {})
    ]
    weight = f"{gigabytes(found.bytes_in)} from the web, {gigabytes(found.bytes_out)} stored"
    lines += ["", f"{found.urls:,} distinct urls, {weight}."]
    return "\n".join(lines) + "\n"


def report(
    listing: Manifest, parts: Sequence[Part], totals: Mapping[str, Any], output: Output, here: Workspace
) -> tuple[dict[str, Any], dict[str, tuple[str, bytes]]]:
    """Write the page of times, and return totals and pages for the manifest.

    Args:
        listing: What was downloaded.
        parts: All parts of the pool.
        totals: What the stage found itself; kept, its markdown put below ours.
        output: The pool.
        here: Where many parts are counted.
    """
    source = listing.ref.name.rpartition("/")[2]
    found = tally(parts, output, here)
    provenance = {
        "pool": str(output.ref),
        "listing": f"{listing.ref}, digest {listing.digest[:16]}",
        "parameters": f"digest {output.config_digest[:16]}",
    }
    page = render(source=source, listing=listing, found=found, provenance=provenance)
    output.store.write(output.ref.key(LIVE), render_live(source=source, found=found, seen=_seen(output)))
    text = [markdown(source, listing.ledger.listed, found), str(totals.get("markdown", ""))]
    told = {
        **totals,
        "ladder": ladder(listing.ledger.listed, found.outcomes),
        "distinct_urls": found.urls,
        "bytes_in": found.bytes_in,
        "bytes_out": found.bytes_out,
        "markdown": "\n".join(text).strip() + "\n",
    }
    return told, {"download_report": ("download.html", page)}


def _seen(output: Output) -> dict[str, Any]:
    key = output.ref.key("measures/watch.json")
    found: dict[str, Any] = json.loads(output.store.read(key))["seen"] if output.store.exists(key) else {}
    return found
