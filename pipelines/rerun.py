"""One stage again, with other parameters if wanted, and if wanted everything that follows it."""

from prefect import flow

from pipelines.changes import made_anew, rerun_steps
from pipelines.dry_run import show
from pipelines.gate import run_with_approval
from pipelines.hooks import HOOKS
from pipelines.names import RecipeName, RetryName, SourceName, StageName, Version
from pipelines.schedule import RUNNER, run_steps


@flow(name="rerun", flow_run_name="rerun-{stage}", task_runner=RUNNER, **HOOKS)
def rerun(
    stage: StageName,
    recipe: RecipeName = RecipeName.TINY,
    sources: tuple[SourceName, ...] = (),
    changes: tuple[str, ...] = (),
    version: Version = "",
    new_version: Version = "",
    and_everything_after: bool = False,
    approve_before_training: bool = False,
    dry_run: bool = False,
    force: bool = False,
    retry: tuple[RetryName, ...] = (),
) -> list[str]:
    """Run one stage again, for all sources or some, and if wanted everything that depends on it.

    To filter with other thresholds and then go on to training: stage filter, the thresholds as changes, a new
    version, and everything after; what came before the filters is found and not made again.
    Without changes, without a new version and without a retry, what stands is made again and replaced.

    Args:
        stage: Which stage, in the order of the road.
        recipe: Which recipe's: tiny, smoke, photos, one_gpu or paper.
        sources: Only these sources; all when left empty.
        changes: Parameters to change, each as path=value, such as policy.clip_similarity.min_similarity=0.6.
            The paths are those of the artifact's recipe.json; a rule of a policy is addressed by its name.
        version: The version to start from: its name, `latest` for the newest, or the digest of something the stage
            reads (its first eight letters or more); the recipe's name when left empty.
        new_version: Name of the new result, beside the old one; the old one's name when left empty.
        and_everything_after: Whether to run what depends on the stage too.
        approve_before_training: Stop after the filters until a person approves what they kept.
        dry_run: Only show which steps would run and what they would cost; nothing is done.
        force: Replace what stands, also where it was made with other parameters.
        retry: For downloads: ask again for rows that ended so, and carry all others over. The result has a name of
            its own beside the earlier one: version-2, version-3 and so on, where no new version is named.
    """
    names = [str(source) for source in sources]
    steps = rerun_steps(stage, recipe, names, changes, version, new_version, and_everything_after, retry)
    anew = made_anew(force, changes, new_version, retry)
    if dry_run:
        return show(steps, anew)
    return run_with_approval(steps, anew) if approve_before_training else run_steps(steps, anew)
