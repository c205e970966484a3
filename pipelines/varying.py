"""The command that compares encoders of one size."""

from typing import Annotated

import typer

from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from models.variants import read_budget
from pipelines.aside import ParametersFile, PlacementFile, Workers, given_in, placed
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console, run_flow
from stages.manifest import Manifest, load
from stages.materialize import materialize
from stages.ref import Ref


@app.command()
def variants(
    data: Annotated[str, typer.Option("--data", help="Shards to train on, name@version.")] = "shards/clean@tiny",
    language: Annotated[
        str, typer.Option("--language", help="Language model of the text tower, name@version; the data's version's.")
    ] = "",
    version: Annotated[str, typer.Option("--version", help="Name of the study; the data's version.")] = "",
    budget: Annotated[str | None, typer.Option("--budget", help="Parameters of a variant: 0.3M, 300M, 6B.")] = None,
    depths: Annotated[str | None, typer.Option("--depths", help="As 2,6; the paper: 32,48,64,80.")] = None,
    head_dims: Annotated[str | None, typer.Option("--head-dims", help="As 8,16; the paper: 64,128.")] = None,
    mlp_ratios: Annotated[str | None, typer.Option("--mlp-ratios", help="As 4,8, the paper's.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Of each training.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="As 0,1,2; one gives no interval.")] = None,
    raised: Annotated[
        str | None, typer.Option("--raised", help="Factors of the learning rate to try: 4,16; '' tries none.")
    ] = None,
    screen_steps: Annotated[
        int | None, typer.Option("--screen-steps", min=0, help="Early stopping: go on with the best after so many.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Start from the paper's own study instead of the tiny one.")
    ] = False,
    parameters: ParametersFile = None,
    placement: PlacementFile = None,
    workers: Workers = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="In this process, one after the other, no services.")
    ] = False,
) -> None:
    """Compare encoders of one size in accuracy, speed and stability, as the paper chose InternViT-6B."""
    with clear_errors():
        from pipelines.study import merged, study_steps
        from stages.study.parameters import paper_study

        numbers = {
            "depths": depths,
            "head_dims": head_dims,
            "mlp_ratios": mlp_ratios,
            "seeds": seeds,
            "raised": raised,
        }
        given = paper_study().model_dump(mode="json") if paper else {}
        given = merged(given, given_in(parameters))
        given |= {name: _numbers(name, text) for name, text in numbers.items() if text is not None}
        given |= {"budget": read_budget(budget)} if budget else {}
        given |= {"screen_steps": screen_steps} if screen_steps is not None else {}
        given = merged(given, {"training": {"schedule": {"steps": steps}}} if steps else {})
        placement_given = placed(placement, workers)
        specs = [step.spec for step in study_steps(data, language, version, given, placement_given)]
        if inline:
            store = Store(settings().store_root)
            _show([materialize(spec, store, InlineCluster()) for spec in specs][-1])
            return

        def begin() -> list[str]:
            from pipelines.variants import compare_variants

            return compare_variants(
                shards=data,
                language=language,
                version=specs[-1].artifact.version,
                parameters=given,
                placement=placement_given,
            )

        here = settings()
        made, _, seconds = run_flow(here, begin)
        study = load(Store(here.store_root), Ref.model_validate(made[-1]))
        _show(study)
        page = study.key(study.reports["page"])
        console.print(f"{here.report_url}/{page}  {seconds / 60:.1f} minutes in all", highlight=False, soft_wrap=True)


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",") if text.strip()]
    except ValueError:
        raise Refusal(f"--{name.replace('_', '-')} {text!r} holds no numbers; write them as 2,6") from None


def _show(study: Manifest) -> None:
    console.print(str(study.ref), highlight=False)
    console.print(str(study.totals["markdown"]).replace("**", ""), highlight=False, markup=False, soft_wrap=True)
