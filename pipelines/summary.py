"""What a run came to: counts beside the paper's, metrics beside chance and blind, minutes per stage."""

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from filters.funnel import PAPER, PAPER_TOTAL
from infra.storage import Store
from stages.manifest import Manifest, find
from stages.planted import fraction, planted_summary
from stages.ref import Ref

VERDICTS = ("verdicts/clean", "verdicts/caption_quality")


def summary(console: Console, store: Store, refs: Sequence[str], seconds: dict[str, float]) -> None:
    """Print what stands of a run; a part that is not finished is left out, never guessed."""
    manifests = [m for ref in refs if (m := find(store, Ref.model_validate(ref)))]
    standing = {manifest.ref.name: manifest for manifest in manifests}
    funnel(console, standing)
    planted(console, standing)
    bad_rows(console, standing)
    metrics(console, store, standing)
    minutes(console, standing, seconds)


def funnel(console: Console, standing: dict[str, Manifest]) -> None:
    """Print rows per source through download and both policies, with the paper's shares."""
    table = Table(
        "source", "listed", "fetched", "clean", "caption quality", "clean kept", "paper", "quality kept", "paper"
    )
    sums, refused = [0, 0, 0, 0], 0
    names = [name.removeprefix("pool/") for name in standing if name.startswith("pool/")]
    for name in names:
        made = [standing.get(f"{kind}/{name}") for kind in ("listing", "pool", *VERDICTS)]
        ledgers = [each.ledger for each in made if each is not None]
        if len(ledgers) < len(made):
            continue
        refused += ledgers[0].rejected
        row = [ledgers[0].listed, *(ledger.kept for ledger in ledgers[1:])]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        table.add_row(name, *_shares(row, PAPER.get(name)))
    if not table.row_count:
        return
    known = any(name in PAPER for name in names)
    table.add_row("total", *_shares(sums, PAPER_TOTAL if known else None), style="bold")
    console.print(table)
    source = "; paper: arXiv 2312.14238, Table 2" if known else ""
    console.print(f"shares are of listed rows{source}", style="dim")
    listed, fetched, _, quality = sums
    # What the listing refuses (no url, no caption, a repetition) is rejected; what did not arrive, failed.
    failed = listed - refused - fetched
    console.print(
        f"ledger: listed {listed:,} = kept {quality:,} + rejected {listed - quality - failed:,} + failed {failed:,}"
    )


def planted(console: Console, standing: dict[str, Manifest]) -> None:
    """Print how well downloads and rules found what the source had planted, where it tells."""
    lines = planted_summary(standing.values())
    if not lines:
        return
    table = Table("against what was planted", "planted", "found", "precision", "recall")
    for line in lines:
        table.add_row(
            line.artifact, f"{line.planted:,}", f"{line.hits:,}", fraction(line.precision), fraction(line.recall)
        )
    console.print(table)


def bad_rows(console: Console, standing: dict[str, Manifest]) -> None:
    """Print how many rows of instruction data were bad, by reason, and the first of them."""
    for name, manifest in standing.items():
        if manifest.stage != "conversations" or not (rejected := manifest.totals["rejected"]):
            continue
        counted = ", ".join(f"{count:,} {reason}" for reason, count in rejected.items())
        lines = [
            f"{name}: {manifest.ledger.rejected:,} of {manifest.ledger.listed:,} rows are left out ({counted}); "
            f"they are listed in {manifest.key(manifest.reports['bad_rows'])}",
            *(f"  {line}" for line in manifest.totals["first_bad_rows"]),
        ]
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _shares(row: list[int], paper: tuple[float, float, float] | None) -> list[str]:
    def of(part: float, whole: float) -> str:
        return f"{100 * part / whole:.1f} %" if whole else "-"

    return [
        *(f"{count:,}" for count in row),
        of(row[2], row[0]),
        of(paper[1], paper[0]) if paper else "-",
        of(row[3], row[0]),
        of(paper[2], paper[0]) if paper else "-",
    ]


def metrics(console: Console, store: Store, standing: dict[str, Manifest]) -> None:
    """Print what the models can do on data that they never saw, beside chance and their blind twins.

    One language of several is shown; the pages that the reports link to hold all of them.
    """
    network = standing.get("checkpoints/filtering_network")
    if network and "image_to_text_r1" in network.totals:
        totals: dict[str, Any] = network.totals
        console.print(
            f"filtering network: image-to-text R@1 {totals['image_to_text_r1']:.3f} "
            f"(chance {totals.get('chance_r1', 0):.3f}, {totals.get('held_out', '?')} held-out rows)"
        )
    for name, manifest in standing.items():
        if name.startswith("evaluations/"):
            (file,) = (part.files["measures"] for part in manifest.parts)
            console.print(_measures(name, json.loads(store.read(manifest.key(file)))["measures"]))


def _measures(name: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Return one language's measures, a row each, with value, chance and blind for each split."""
    language, splits = rows[0]["language"], list(dict.fromkeys(row["split"] for row in rows))
    columns = [column for split in splits for column in (split, "chance", "blind")]
    table = Table(f"{name} ({language}, n {rows[0]['n']:,})", *columns)
    shown: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row["language"] == language and "recall_at_5" not in row["name"]:
            cells = [_measure(row[column], row["unit"]) for column in ("value", "chance", "blind")]
            shown.setdefault(row["name"].replace("_", " "), {})[row["split"]] = cells
    for measure, by_split in shown.items():
        table.add_row(measure, *(cell for split in splits for cell in by_split.get(split, ["-"] * 3)))
    return table


def _measure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.3f}"


def minutes(console: Console, standing: dict[str, Manifest], seconds: dict[str, float]) -> None:
    """Print where this run's time went, by stage."""
    by_stage: dict[str, float] = {}
    for artifact, spent in seconds.items():
        if artifact in standing:
            stage = standing[artifact].stage
            by_stage[stage] = by_stage.get(stage, 0.0) + spent
    if by_stage:
        spent_on = sorted(by_stage.items(), key=lambda each: -each[1])
        console.print(
            "minutes per stage (steps run side by side): "
            + ", ".join(f"{stage} {spent / 60:.1f}" for stage, spent in spent_on),
            highlight=False,
        )
