"""Benchmarks of a checkpoint, or of all checkpoints of a recipe, as one Prefect flow."""

from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run as current_run
from pydantic import Field

from infra.settings import settings
from infra.storage import Store
from pipelines.hooks import HOOKS
from pipelines.names import RecipeName, Version
from pipelines.schedule import RUNNER, run_steps


def _name() -> str:
    """Return what a run is called: by its checkpoint, or its recipe."""
    given = current_run.parameters
    return f"evaluate-{given.get('checkpoint') or given.get('recipe')}"


@flow(name="evaluate", flow_run_name=_name, task_runner=RUNNER, **HOOKS)
def evaluate(
    checkpoint: str = "",
    recipe: RecipeName = RecipeName.TINY,
    data: str = "",
    benchmarks: tuple[str, ...] = (),
    at: tuple[str, ...] = (),
    own: tuple[str, ...] = (),
    limit: Annotated[int | None, Field(ge=1)] = None,
    changes: tuple[str, ...] = (),
    version: Version = "",
    force: bool = False,
) -> list[str]:
    """Measure a checkpoint on the paper's benchmarks, or a recipe's checkpoints by its own steps and on benchmarks.

    Args:
        checkpoint: Which one, as checkpoints/contrastive@tiny; those of the recipe when left empty.
        recipe: Whose checkpoints, where none is named.
        data: Folder that holds the benchmarks' data, a folder or a file for each, named like the benchmark.
        benchmarks: Only these; all whose data are found when left empty.
        at: Data that lie elsewhere, each as NAME=PATH.
        own: YAML files that describe data of your own.
        limit: Only so many examples of each, chosen by hash.
        changes: Settings of protocols, each as PROTOCOL.FIELD=VALUE.
        version: Name of the result; the checkpoint's version when left empty. Of a recipe, the version to measure.
        force: Replace what stands.
    """
    # They import torch, which serving the form can spare.
    from pipelines.measuring import of_checkpoint, of_recipe
    from pipelines.wanted import Wanted

    wanted = Wanted.of(data, benchmarks, at, own, limit, changes)
    if not checkpoint:
        return run_steps(of_recipe(recipe, wanted, version).steps, force)
    return run_steps(of_checkpoint(Store(settings().store_root), checkpoint, wanted, version).steps, force)
