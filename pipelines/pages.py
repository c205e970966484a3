"""What a run and its steps show on the run's page in the Prefect UI."""

from collections import Counter
from collections.abc import Mapping

from prefect.artifacts import create_markdown_artifact

from infra.settings import Settings
from pipelines.links import links, ray_asks, tensorboard
from pipelines.plan import STANDS
from stages.download_report import LIVE
from stages.manifest import Manifest
from stages.ref import Ref
from stages.training.curves import CURVES

HIDDEN = ("markdown", "funnel", "outcomes")


def markdown(label: str, manifest: Manifest, report_url: str) -> str:
    """Return a step's numbers as markdown, with links to its reports."""
    lines = [
        f"## {label}",
        "",
        in_a_line(manifest),
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


def in_a_line(manifest: Manifest) -> str:
    """Say where an artifact's rows went, and for a training how far it came."""
    ledger, totals = manifest.ledger, manifest.totals
    rows = (
        f"listed {ledger.listed:,} = kept {ledger.kept:,} + rejected {ledger.rejected:,} + failed {ledger.failed:,}"
    )
    trained = {"steps", "last_loss"} <= totals.keys()
    return f"{rows}; {totals['steps']:,} steps, last loss {totals['last_loss']:.4g}" if trained else rows


def summary_of(states: Mapping[str, str], force: bool = False) -> str:
    """Say how much of a run's work is to be made; `states` by artifact, as `states_of` gives them."""
    stand = 0 if force else Counter(states.values())[STANDS]
    steps = f"{len(states)} step" + ("" if len(states) == 1 else "s")
    return f"{steps}: {len(states) - stand} to make, {stand} stand already" if stand else f"{steps} to make"


def signpost(title: str, summary: str, here: Settings) -> str:
    """Return as markdown where to watch a run."""
    at, asks = links(here), ray_asks(here)
    return "\n".join(
        [
            f"## {title}",
            "",
            f"{summary}. Each step has an artifact of its own below: how far it is, then its numbers and reports.",
            "",
            f"- [What runs now]({at['reports']}/): done, rate, remaining time, what failed and why",
            f"- [Lineage]({at['lineage']}), [parts]({at['parts']}), [checkpoints]({at['checkpoints']})",
            f"- [Ray dashboard]({at['Ray dashboard']}): machines, jobs and their whole logs"
            + (f"; it {asks.replace('in ', 'in `')}`" if asks else ""),
            f"- TensorBoard, for each training by step: `{tensorboard(here)}`",
            "",
            "Our pages ask for a token: `internvl status --links` prints the link that lets a browser in. In a "
            "terminal: `internvl status --watch`.",
        ]
    )


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
    create_markdown_artifact(markdown(label, manifest, report_url), key=key, description=in_a_line(manifest))
