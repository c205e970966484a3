"""From url lists to training shards, as one Prefect flow; and one stage again, with what follows it."""

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from infra.settings import settings
from pipelines.graph import Step, data_steps, everything_after, with_version
from pipelines.recipes import OwnData, RecipeName, make
from pipelines.steps import run_step, stop_jobs
from stages.materialize import StageSpec

TOGETHER = 2  # steps at once: on one machine two jobs keep both cores busy
RUNNER: Any = ThreadPoolTaskRunner(max_workers=TOGETHER)


def run_steps(steps: list[Step], force: bool = False) -> list[str]:
    """Run steps in order, independent ones together; return the references that were made."""
    futures: dict[str, Any] = {}
    submit: Any = run_step.submit
    for step in steps:
        before = [futures[ref.name] for ref in step.spec.inputs if ref.name in futures]
        futures[step.artifact] = submit(step, force=force, wait_for=before)
    return [str(future.result()) for future in futures.values()]


@flow(
    name="data",
    flow_run_name="data-{recipe}",
    task_runner=RUNNER,
    on_cancellation=[stop_jobs],
)
def build_data(
    recipe: RecipeName = RecipeName.TINY,
    version: str | None = None,
    own: OwnData | None = None,
    force: bool = False,
) -> list[str]:
    """Build a recipe's training shards; work that stands is found and skipped.

    Args:
        recipe: Which recipe to follow.
        version: Name of the result; the recipe's name when left out.
        own: Your data, for the photos recipe.
        force: Make everything again, also what stands.
    """
    made = make(recipe, own, settings().web_url)
    return run_steps(data_steps(made, version or str(recipe)), force)


@flow(
    name="rerun",
    flow_run_name="rerun-{stage}",
    task_runner=RUNNER,
    on_cancellation=[stop_jobs],
)
def rerun(
    stage: str,
    recipe: RecipeName = RecipeName.TINY,
    sources: list[str] | None = None,
    version: str | None = None,
    new_version: str | None = None,
    changes: dict[str, Any] | None = None,
    and_everything_after: bool = False,
    own: OwnData | None = None,
    force: bool = False,
) -> list[str]:
    """Run one stage again, for all sources or some, and if wanted everything that depends on it.

    Args:
        stage: Which stage: list_urls, download, filtering_network, score, filter or write_shards.
        recipe: Which recipe to follow.
        sources: Only these sources; all when left out.
        version: The version to start from; the recipe's name when left out.
        new_version: Name of the new result; the old one when left out.
        changes: Parameters to change, by dotted path, such as policy.clip_similarity.min_similarity.
        and_everything_after: Whether to run what depends on the stage too.
        own: Your data, for the photos recipe.
        force: Replace what stands.
    """
    steps = data_steps(make(recipe, own, settings().web_url), version or str(recipe))
    chosen = [
        step
        for step in steps
        if step.spec.stage == stage and (not sources or step.artifact.rpartition("/")[2] in sources)
    ]
    if not chosen:
        known = ", ".join(sorted({step.spec.stage for step in steps}))
        raise ValueError(f"nothing to run for stage {stage!r} and sources {sources}; the stages are {known}")
    if changes:
        changed = {step.artifact: Step(step.label, change(step.spec, changes)) for step in chosen}
        steps = [changed.get(step.artifact, step) for step in steps]
        chosen = list(changed.values())
    wanted = everything_after(steps, chosen) if and_everything_after else chosen
    if new_version:
        wanted = with_version(steps, wanted, new_version)
    return run_steps(wanted, force)


def change(spec: StageSpec, changes: dict[str, Any]) -> StageSpec:
    """Return a spec with parameters changed by dotted path; rules of a policy are addressed by their reason.

    Raises:
        ValueError: A path names nothing; the message says what there is.
    """
    parameters: dict[str, Any] = spec.model_copy(deep=True).parameters
    applied = 0
    for path, value in changes.items():
        *way, last = path.split(".")
        at: Any = parameters
        for name in way:
            rules = at.get("filters") if isinstance(at, dict) else None
            found = next((rule for rule in rules or () if rule.get("kind") == name), None)
            at = found if found is not None else at.get(name) if isinstance(at, dict) else None
            if at is None:
                break
        if not isinstance(at, dict) or last not in at:
            continue
        at[last] = value
        applied += 1
    if not applied and spec.parameters.get("policy", {}).get("filters") != []:
        raise ValueError(f"no parameter of {spec.artifact} is called {', '.join(changes)}; see its recipe.json")
    return spec.model_copy(update={"parameters": parameters})
