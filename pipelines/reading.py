"""The commands that only read: show, verify."""

from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.approvals import decisions
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.manifest import find, finished, load, verify
from stages.quarantine import QUARANTINED
from stages.ref import Ref


@app.command()
def show(ref: Annotated[str, typer.Argument(help="name@version")]) -> None:
    """Print what a finished artifact holds."""
    with clear_errors():
        store, named = Store(settings().store_root), Ref.model_validate(ref)
        decided = decisions(store, named)
        if decided and find(store, named) is None:
            # Who rejects what filters kept leaves shards that are never written, and a reason.
            for line in (f"{named} was not written", *(each.sentence for each in decided)):
                console.print(line, highlight=False, markup=False)
            return
        manifest = load(store, named)
        ledger = manifest.ledger
        console.print(
            f"{manifest.ref}  digest {manifest.digest[:16]}  stage {manifest.stage}  {len(manifest.parts)} parts"
        )
        console.print(
            f"listed {ledger.listed:,} = kept {ledger.kept:,} + rejected {ledger.rejected:,} "
            f"+ failed {ledger.failed:,}"
        )
        for name, value in manifest.totals.items():
            if name == QUARANTINED:
                for part in value:
                    console.print(f"quarantined part {part['part']}: {part['rows']:,} rows, {part['reason']}")
            elif name not in ("funnel", "cube", "markdown"):
                console.print(f"{name}: {value}", highlight=False, markup=False)
        for name, digest in manifest.identity["inputs"].items():
            console.print(f"from {name} {digest[:16]}", highlight=False)
        for decision in decided:
            console.print(decision.sentence, highlight=False, markup=False)


@app.command(name="verify")
def verify_command(
    refs: Annotated[list[str] | None, typer.Argument(help="name@version; everything when left out")] = None,
) -> None:
    """Read every byte back and compare; exit 1 and name the file where something differs."""
    with clear_errors():
        store = Store(settings().store_root)
        named = [Ref.model_validate(ref) for ref in refs or ()] or sorted(finished(store.keys()), key=str)
        if not named:
            raise Refusal(f"no finished artifact in {store.root}; run something first: internvl demo")
        manifests = [load(store, ref) for ref in named]
        wrong = 0
        for manifest in manifests:
            problems = verify(store, manifest)
            wrong += len(problems)
            for problem in problems:
                console.print(f"[bold red]damaged[/] {problem}", highlight=False, soft_wrap=True)
            if not problems:
                console.print(f"whole   {manifest.ref}  {len(manifest.files())} files", highlight=False)
        if wrong:
            raise typer.Exit(1)
