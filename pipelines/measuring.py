"""The steps of an evaluation: of one checkpoint, or of all checkpoints of a recipe."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from infra.storage import Store
from pipelines.choosing import KINDS, Told, choices, nothing_found, silent
from pipelines.graph import Step
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import make
from pipelines.wanted import Wanted
from stages.benchmark import Parameters
from stages.evaluations.choice import Choice
from stages.evaluations.costs import Sizes
from stages.evaluations.subject import Kind, kind_of
from stages.manifest import ManifestError, load
from stages.materialize import StageSpec
from stages.ref import Ref


def benchmark_ref(checkpoint: Ref, version: str = "") -> Ref:
    """Return what the benchmarks of a checkpoint are called: `benchmarks/contrastive@tiny`."""
    return Ref(name=f"benchmarks/{checkpoint.name.rpartition('/')[2]}", version=version or checkpoint.version)


def benchmark_spec(
    checkpoint: Ref, rows: Mapping[str, Choice], version: str = "", placement: Mapping[str, Any] | None = None
) -> StageSpec:
    """Return the stage that measures a checkpoint."""
    return StageSpec(
        stage="benchmark",
        artifact=benchmark_ref(checkpoint, version),
        parameters=Parameters(rows=dict(rows)).model_dump(mode="json"),
        inputs=(checkpoint,),
        placement=dict(placement or {}),
    )


class Planned(NamedTuple):
    """The steps of an evaluation."""

    steps: list[Step]
    left_out: dict[str, str]
    sizes: dict[str, Sizes]


def of_checkpoint(
    store: Store, text: str, wanted: Wanted, version: str = "", placement: Mapping[str, Any] | None = None,
    told: Told = silent,
) -> Planned:  # fmt: skip
    """Return the one step that measures a checkpoint on all that is asked for.

    Raises:
        ManifestError: It does not stand, is none that benchmarks are about, or no data were found.
    """
    checkpoint = load(store, Ref.model_validate(text))
    kind = kind_of(checkpoint)
    found = choices(kind, wanted, told)
    if not found.rows:
        raise _nothing(kind, wanted, found.left_out)
    spec = benchmark_spec(checkpoint.ref, found.rows, version, placement)
    return Planned([Step(label=f"benchmark {checkpoint.ref}", spec=spec)], found.left_out, found.sizes)


def of_recipe(recipe: RecipeName, wanted: Wanted, version: str = "", told: Told = silent) -> Planned:
    """Return a recipe's own evaluation steps, and for each of its checkpoints the benchmarks that were found.

    Raises:
        ManifestError: Data are named that fit none of its checkpoints.
    """
    steps = [step for step in steps_of(FlowName.TRAIN, recipe, version) if step.spec.stage == "evaluate"]
    left_out, sizes = dict[str, str](), dict[str, Sizes]()
    if not (wanted.data or wanted.at or wanted.names or wanted.own):
        return Planned(steps, left_out, sizes)
    made = make(recipe)
    found: dict[Kind, dict[str, Choice]] = {}
    refusals: list[ManifestError] = []
    for kind in KINDS:
        try:
            chosen = choices(kind, wanted, told, made.protocols)
            found[kind], left_out, sizes = chosen.rows, left_out | chosen.left_out, sizes | chosen.sizes
        except ManifestError as error:  # what does not fit one checkpoint may fit the next
            refusals.append(error)
    if not any(found.values()):
        raise refusals[0] if refusals else _nothing("generative", wanted, left_out)
    # What one checkpoint cannot be measured on is no news where another one is.
    left_out = {name: why for name, why in left_out.items() if name not in sizes}
    placement = made.placement.get("benchmark", {})
    for kind, rows in found.items():
        if rows:
            spec = benchmark_spec(
                Ref(name=f"checkpoints/{kind}", version=version or str(recipe)), rows, "", placement
            )
            steps.append(Step(label=f"benchmark {kind}", spec=spec))
    return Planned(steps, left_out, sizes)


def _nothing(kind: Kind, wanted: Wanted, left_out: Mapping[str, str]) -> ManifestError:
    if left_out:
        return ManifestError("; ".join(f"{row}: {why}" for row, why in left_out.items()))
    return nothing_found(kind, wanted)
