"""The command that judges any file of captions: which rule takes how many, and what is kept."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console

if TYPE_CHECKING:
    from filters.base import Filter
    from pipelines.caption_files import CaptionFile
    from pipelines.caption_verdicts import Tally

PATIENCE_SECONDS = 5
LANGUAGES_SHOWN = 20


class PolicyName(StrEnum):
    """Policies that can be asked for."""

    CAPTION_QUALITY = "caption_quality"
    CLEAN = "clean"


@app.command()
def judge(
    file: Annotated[Path, typer.Argument(help="Captions, and signals where it has them: parquet, csv, tsv, jsonl.")],
    policy: Annotated[PolicyName, typer.Option("--policy", help="Which rules.")] = PolicyName.CAPTION_QUALITY,
    profile: Annotated[
        str, typer.Option("--profile", help="Source whose profile judges, as laion_en or coyo; some are exempt.")
    ] = "laion_en",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for verdicts.parquet: row, kept, reasons; no captions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the funnel as JSON, and nothing else.")] = False,
    caption_column: Annotated[
        str | None, typer.Option("--caption-column", help="Column that holds captions; guessed when left out.")
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option("--rule", help="Judge by this rule too, as pii; may be given again.")
    ] = None,
    filters_folder: Annotated[
        str | None, typer.Option("--filters-folder", help="Folder with filters of your own.")
    ] = None,
) -> None:
    """Judge a file of captions: per rule how many it takes, and how many only it takes; what is kept, by language."""
    with clear_errors():
        from pipelines.caption_files import CaptionFile
        from pipelines.caption_verdicts import judge_file, judged_by

        rules = _rules(policy, profile, rule or (), filters_folder)
        captions = CaptionFile(file, caption_column)
        filters, missing = judged_by(captions, rules)
        if out is not None:
            if out.exists() and not out.is_dir():
                raise Refusal(f"{out} is no folder; name one to write verdicts.parquet to")
            out.mkdir(parents=True, exist_ok=True)
        with _progress(captions.rows) as (tell, counted):
            tally = judge_file(captions, filters, out / "verdicts.parquet" if out else None, tell, counted)
        result = _result(captions, policy, profile, filters, missing, tally)
        if as_json:
            sys.stdout.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
            return
        _show(result)
        if out is not None:
            console.print(f"written to {out / 'verdicts.parquet'}", highlight=False, markup=False)


def _rules(policy: PolicyName, profile: str, more: Sequence[str], folder: str | None) -> "tuple[Filter, ...]":
    from filters.catalogue import FILTERS
    from filters.policies import PROFILES, caption_quality, clean

    if profile not in PROFILES:
        raise Refusal(f"no profile {profile!r}; there are {', '.join(PROFILES)}; your own data is like laion_en")
    if policy is PolicyName.CLEAN:
        found = clean(filters_folder=folder).filters
    else:
        found = caption_quality(profile, filters_folder=folder).filters
    named = {each.reason for each in found}
    if unknown := [name for name in more if name not in FILTERS]:
        raise Refusal(f"no rule {unknown[0]!r}; there are {', '.join(sorted(FILTERS))}")
    return (*found, *(FILTERS[name]() for name in dict.fromkeys(more) if name not in named))


def _result(
    file: "CaptionFile",
    policy: PolicyName,
    profile: str,
    filters: "Sequence[Filter]",
    missing: dict[str, list[str]],
    tally: "Tally",
) -> dict[str, Any]:
    """Return the funnel as plain data, as `--json` prints it."""
    rows, kept = tally.rows, tally.masks[0]
    return {
        "file": str(file.path),
        "policy": str(policy),
        "profile": profile,
        "caption_column": file.caption,
        "rows": rows,
        "kept": kept,
        "kept_share": round(kept / rows, 6) if rows else None,
        "rules": [
            {
                "rule": each.reason,
                "total": tally.total(each.reason),
                "alone": tally.alone(each.reason),
                "unknown": tally.unknown[each.reason],
            }
            for each in filters
        ],
        "not_judged": missing,
        "languages_from": file.language or "guessed from script and function words",
        "languages": {
            name: {"rows": counts[0], "kept": counts[1]}
            for name, counts in sorted(tally.languages.items(), key=lambda item: (-item[1][0], item[0]))
        },
    }


def _show(result: dict[str, Any]) -> None:
    rows = result["rows"]

    def share(count: int) -> str:
        return f"{100 * count / rows:.2f} %" if rows else "–"

    title = (
        f"{result['policy']} for {result['profile']}: {result['kept']:,} of {rows:,} kept, {share(result['kept'])}"
    )
    table = Table("rule", title=escape(title), title_justify="left")
    for name in ("takes", "share", "only this rule", "share", "unknown"):
        table.add_column(name, justify="right")
    for each in sorted(result["rules"], key=lambda each: -each["total"]):
        total, alone, unknown = each["total"], each["alone"], each["unknown"]
        table.add_row(
            each["rule"], f"{total:,}", share(total), f"{alone:,}", share(alone), f"{unknown:,}" if unknown else ""
        )
    console.print(table)
    if not result["rules"]:
        console.print("no rule judged: this policy changes nothing for this profile, or the file lacks its signals")
    for name, signals in result["not_judged"].items():
        console.print(f"not judged: {name}, because the file has no {' and no '.join(signals)}", markup=False)
    languages = Table("language", title=escape(f"languages: {result['languages_from']}"), title_justify="left")
    for name in ("rows", "kept", "share"):
        languages.add_column(name, justify="right")
    shown = list(result["languages"].items())
    for name, counts in shown[:LANGUAGES_SHOWN]:
        kept = f"{100 * counts['kept'] / counts['rows']:.1f} %"
        languages.add_row(escape(name), f"{counts['rows']:,}", f"{counts['kept']:,}", kept)
    console.print(languages)
    if len(shown) > LANGUAGES_SHOWN:
        console.print(f"and {len(shown) - LANGUAGES_SHOWN} more; --json lists all")


@contextmanager
def _progress(rows: int | None) -> Iterator[tuple[Any, Any]]:
    """Give two functions to tell rows to, judged and counted; a bar on stderr once it takes longer than a moment."""
    started = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    tasks = {name: bar.add_task(name, total=rows, visible=False) for name in ("counting repeats", "judging")}

    def teller(name: str) -> Any:
        def tell(count: int) -> None:
            bar.update(tasks[name], advance=count, visible=True)
            if not bar.live.is_started and time.monotonic() - started > PATIENCE_SECONDS:
                bar.start()

        return tell

    try:
        yield teller("judging"), teller("counting repeats")
    finally:
        bar.stop()
