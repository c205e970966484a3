"""The paper's hyper-parameter study as one Prefect flow: encoders of one size, trained alike and compared."""

from typing import Any

from prefect import flow

from pipelines.hooks import HOOKS
from pipelines.names import Version
from pipelines.schedule import RUNNER, run_steps
from pipelines.study import study_steps


@flow(name="variants", flow_run_name="variants-{version}", task_runner=RUNNER, **HOOKS)
def compare_variants(
    shards: str = "shards/clean@tiny",
    language: str = "",
    version: Version = "",
    parameters: dict[str, Any] | None = None,
    placement: dict[str, Any] | None = None,
    force: bool = False,
) -> list[str]:
    """Train variants of an encoder that have about equally many parameters, and say which to take.

    Args:
        shards: What all variants are trained on, name@version.
        language: What the text tower starts from; the language model of the shards' version when left empty.
        version: Name of the study and its trainings; the shards' version when left empty.
        parameters: Fields of the study that differ from its defaults: budget, depths, head_dims, mlp_ratios ...
        placement: Where each training runs; workers, gpus_per_worker ...
        force: Compare again what stands; trainings that stand are taken as they are.
    """
    steps = study_steps(shards, language, version, parameters or {}, placement or {})
    made = run_steps(steps[:-1]) if steps[:-1] else []
    return [*made, *run_steps(steps[-1:], force)]
