"""The command that runs one stage again."""

from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.names import RecipeName, RetryName, SourceName, StageName
from pipelines.options import Approve, DryRun, Recipe, app
from pipelines.terminal import clear_errors, console, run_flow
from stages.ref import Ref


@app.command()
def rerun(
    stage: Annotated[StageName, typer.Argument(help="Which stage.")],
    recipe: Recipe = RecipeName.TINY,
    source: Annotated[
        list[SourceName] | None, typer.Option("--source", help="Only this source; may be given again.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="path=value, as policy.clip_similarity.min_similarity=0.6; may be given again."),
    ] = None,
    after: Annotated[bool, typer.Option("--after", help="Also run everything that depends on it.")] = False,
    version: Annotated[
        str, typer.Option("--version", help="What to start from: a version, latest, or a digest.")
    ] = "",
    new_version: Annotated[str, typer.Option("--new-version", help="Name of the result, beside the old one.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace what stands with other parameters.")] = False,
    retry: Annotated[
        list[RetryName] | None,
        typer.Option("--retry", help="For download: ask again for what may come back; may be given again."),
    ] = None,
    approve: Approve = False,
    dry_run: DryRun = False,
) -> None:
    """Run one stage again, with other parameters if wanted; without, what stands is made again."""
    with clear_errors():
        from pipelines.changes import made_anew, rerun_steps
        from pipelines.placing import placed_here
        from pipelines.plan import preflight
        from pipelines.summary import summary

        here = settings()
        steps = rerun_steps(
            stage,
            recipe,
            [str(each) for each in source or ()],
            change or (),
            version,
            new_version,
            after,
            retry or (),
        )
        anew = made_anew(force, change or (), new_version, retry or ())
        preflight(steps, Store(here.store_root), anew)
        if dry_run:
            from pipelines.dry_run import markdown

            print(markdown(steps, Store(here.store_root), anew))
            return

        for line in placed_here(steps, here):
            console.print(line, style="dim", highlight=False, markup=False)

        def begin() -> list[str]:
            from pipelines.rerun import rerun as flow

            return flow(
                stage=stage, recipe=recipe, sources=tuple(source or ()), changes=tuple(change or ()), version=version,
                new_version=new_version, and_everything_after=after, force=force, retry=tuple(retry or ()),
                approve_before_training=approve,
            )  # fmt: skip

        made, seconds, _ = run_flow(here, begin)
        for ref in made:
            console.print(f"{ref}  {here.report_url}/{Ref.model_validate(ref).folder}/", highlight=False)
        summary(console, Store(here.store_root), made, seconds)
