"""What a finished step shows on its run's page in the Prefect UI."""

from prefect.artifacts import create_markdown_artifact

from stages.download_report import LIVE
from stages.manifest import Manifest
from stages.ref import Ref
from stages.training.curves import CURVES

HIDDEN = ("markdown", "funnel", "outcomes")


def markdown(label: str, manifest: Manifest, report_url: str) -> str:
    """Return a step's numbers as markdown, with links to its reports."""
    ledger = manifest.ledger
    lines = [
        f"## {label}",
        "",
        f"listed {ledger.listed:,} = kept {ledger.kept:,} + rejected {ledger.rejected:,} + failed {ledger.failed:,}",
        "",
        f"[{manifest.ref}]({report_url}/{manifest.ref.folder}/), digest `{manifest.digest[:16]}`",
        "",
        f"[What it is made from]({report_url}/lineage?of={manifest.ref}) · "
        f"[its parts]({report_url}/grid?version={manifest.ref.version})",
    ]
    for role, file in manifest.reports.items():
        what = "full report" if role == "page" else role.replace("_", " ")
        lines += ["", f"[Open the {what}]({report_url}/{manifest.key(file)})"]
    if "last_loss" in manifest.totals:
        lines += ["", f"[Open the curves of this run]({report_url}/{manifest.ref.key(CURVES)})"]
    if "ladder" in manifest.totals:
        # A download tells its counts in tables of its own, and its times on a page beside the manifest.
        lines += ["", f"[Open the times of this run]({report_url}/{manifest.ref.key(LIVE)})"]
        return "\n".join([*lines, "", str(manifest.totals["markdown"])])
    if text := manifest.totals.get("markdown"):
        lines += ["", str(text)]
    plain = {k: v for k, v in manifest.totals.items() if isinstance(v, int | float | str) and k not in HIDDEN}
    facts = {**plain, **manifest.totals.get("outcomes", {})}
    if facts:
        lines += ["", "| | |", "| :-- | --: |"]
        lines += [f"| {name.replace('_', ' ')} | {_number(value)} |" for name, value in facts.items()]
    return "\n".join(lines)


def progress_words(label: str, pace: str, ref: Ref, report_url: str) -> str:
    """Return how far a step is as markdown, with links to the pages that show it beside the others."""
    return (
        f"{label}: {pace} ([parts]({report_url}/grid?version={ref.version}), "
        f"[lineage]({report_url}/lineage?of={ref}), [everything that runs]({report_url}/))"
    )


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def publish(label: str, manifest: Manifest, report_url: str) -> None:
    """Put a step's numbers on the run's page; the key collects its versions over time."""
    key = manifest.ref.name.replace("/", "-").replace("_", "-").lower()
    create_markdown_artifact(markdown(label, manifest, report_url), key=key)
