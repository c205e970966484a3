"""From what a user has on disk to the rows that are measured: which benchmarks, on which data, in which way."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infra.settings import settings
from infra.storage import Store
from pipelines.graph import Step
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import make
from pipelines.wanted import Wanted
from stages.benchmark import Parameters
from stages.evaluations.base import Examples, HasTraining
from stages.evaluations.choice import TRAINS, Choice, Named, named_rows
from stages.evaluations.data import find_place, open_examples, what_to_fetch
from stages.evaluations.protocols import PROTOCOLS, measurable, settings_of
from stages.evaluations.registry import Benchmark, benchmark, benchmarks, load_own
from stages.evaluations.subject import Kind, kind_of
from stages.manifest import ManifestError, load
from stages.materialize import StageSpec
from stages.ref import Ref

Told = Callable[[float, float, str], None]
KINDS: tuple[Kind, ...] = ("contrastive", "generative", "instruct")


def silent(done: float, total: float, unit: str) -> None:
    """Tell nobody."""


def _asked(wanted: Wanted) -> tuple[list[Benchmark], frozenset[str]]:
    """Return the benchmarks that are asked for, and the names of the user's own."""
    own = {spec.name: spec for spec in map(load_own, wanted.own)}
    if taken := sorted(set(own) & set(benchmarks())):
        raise ManifestError(f"--own describes {taken[0]}, which is a benchmark of the paper; give it another name")
    known = {**benchmarks(), **own}
    if lost := sorted(set(wanted.at) - set(known)):
        benchmark(lost[0])  # says what is near
    specs = [known.get(name) or benchmark(name) for name in dict.fromkeys(wanted.names)]
    return specs or list(known.values()), frozenset(own)


class Chosen(NamedTuple):
    """What is measured."""

    rows: dict[str, Choice]
    left_out: dict[str, str]
    """Rows of data that are there which cannot be measured, and why."""


def choices(kind: Kind, wanted: Wanted, told: Told = silent) -> Chosen:
    """Return the rows that a checkpoint of this kind is measured on, each with the digest of its data.

    Args:
        kind: What the checkpoint is.
        wanted: What is asked for.
        told: Hears how far the reading of data is.

    Raises:
        ManifestError: A benchmark that was named has no data or cannot be measured on this kind, or a setting
            belongs to no row.
    """
    specs, own = _asked(wanted)
    asked = [protocol for protocol, changes in wanted.changes.items() if changes.get("queries")]
    if asked and kind != "generative":
        raise ManifestError(
            f"--set {asked[0]}.queries=true is InternVL-G's way of seeing, and this checkpoint is {kind}; leave "
            "it out, or name checkpoints/generative"
        )
    found, left_out = dict[str, Choice](), dict[str, str]()
    for spec in specs:
        place = find_place(spec, wanted.data, wanted.at)
        named = list(named_rows(spec))
        fitting = [each for each in named if not measurable(each.row, kind)]
        insisted = spec.name in wanted.names or spec.name in wanted.at
        if place is None:
            if insisted or spec.name in own:
                raise ManifestError(f"the data of {spec.name} are not there: {what_to_fetch(spec)}")
        elif fitting:
            found |= _chosen(fitting, place, spec.name in own, wanted, told, left_out)
        elif insisted:
            why = sorted({measurable(each.row, kind) for each in named})
            raise ManifestError(f"{spec.name} cannot be measured on this checkpoint: it {' or '.join(why)}")
        elif spec.name in own:
            left_out |= {each.name: measurable(each.row, kind) for each in named}
    used = {choice.protocol for choice in found.values()}
    if found and (unused := sorted(set(wanted.changes) - used)):
        raise ManifestError(f"--set {unused[0]}.* changes nothing: no row of {', '.join(found)} is measured by it")
    return Chosen(found, left_out)


def _chosen(
    rows: Sequence[Named], place: Path, own: bool, wanted: Wanted, told: Told, left_out: dict[str, str]
) -> dict[str, Choice]:
    found, opened = {}, dict[str, Examples]()
    for name, spec, row in rows:
        if row.language not in opened:
            cache = settings().home / "hashes"
            opened[row.language] = open_examples(
                spec, place, limit=wanted.limit, language=row.language, cache=cache, progress=told
            )
        examples = opened[row.language]
        try:
            taught = examples.training() if row.protocol in TRAINS and isinstance(examples, HasTraining) else None
        except ManifestError as error:
            left_out[name] = str(error)
            continue
        given = {**row.settings, **wanted.changes.get(row.protocol, {})}
        found[name] = Choice(
            benchmark=spec.name,
            own=spec if own else None,
            protocol=row.protocol,
            language=row.language,
            settings=settings_of(PROTOCOLS[row.protocol], given).model_dump(mode="json"),
            place=str(place),
            limit=wanted.limit,
            data=examples.digest,
            training=taught.digest if taught else None,
        )
    return _once(rows, found, left_out)


def _once(rows: Sequence[Named], found: Mapping[str, Choice], left_out: dict[str, str]) -> dict[str, Choice]:
    """Return the rows without those that changed settings made like another one, which then tells the number."""
    unchanged = {
        each.name
        for each in rows
        if each.name in found
        and settings_of(PROTOCOLS[each.row.protocol], each.row.settings).model_dump(mode="json")
        == found[each.name].settings
    }
    kept = {name: choice for name, choice in found.items() if name in unchanged}
    for name, choice in found.items():
        twin = next((other for other, known in kept.items() if known == choice and other != name), None)
        if twin is not None and name not in unchanged:
            left_out[name] = f"with these settings it is the same measurement as {twin}"
        else:
            kept[name] = choice
    return {name: choice for name, choice in found.items() if name in kept}


def nothing_found(kind: Kind, wanted: Wanted) -> ManifestError:
    """Return the error about a folder without benchmarks: what there is, and what to fetch."""
    able = [spec for spec in benchmarks().values() if any(not measurable(row, kind) for row in spec.rows)]
    names = ", ".join(spec.name for spec in able) or "none of the registry"
    where = f"{wanted.data} holds no benchmark's data" if wanted.data else "no data were given"
    example = f"; for example {able[0].name}: {what_to_fetch(able[0])}" if able else ""
    return ManifestError(
        f"{where}. This checkpoint can be measured on {names}{example}. `internvl benchmarks NAME` tells of each; "
        "your own data: --own SPEC.yaml"
    )


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
    return Planned([Step(label=f"benchmark {checkpoint.ref}", spec=spec)], found.left_out)


def of_recipe(recipe: RecipeName, wanted: Wanted, version: str = "", told: Told = silent) -> Planned:
    """Return a recipe's own evaluation steps, and for each of its checkpoints the benchmarks that were found.

    Raises:
        ManifestError: Data are named that fit none of its checkpoints.
    """
    steps = [step for step in steps_of(FlowName.TRAIN, recipe, version) if step.spec.stage == "evaluate"]
    left_out: dict[str, str] = {}
    if not (wanted.data or wanted.at or wanted.names or wanted.own):
        return Planned(steps, left_out)
    found: dict[Kind, dict[str, Choice]] = {}
    refusals: list[ManifestError] = []
    for kind in KINDS:
        try:
            found[kind], more = choices(kind, wanted, told)
            left_out |= more
        except ManifestError as error:  # what does not fit one checkpoint may fit the next
            refusals.append(error)
    if not any(found.values()):
        raise refusals[0] if refusals else _nothing("generative", wanted, left_out)
    placement = make(recipe).placement.get("benchmark", {})
    for kind, rows in found.items():
        if rows:
            spec = benchmark_spec(
                Ref(name=f"checkpoints/{kind}", version=version or str(recipe)), rows, "", placement
            )
            steps.append(Step(label=f"benchmark {kind}", spec=spec))
    return Planned(steps, left_out)


def _nothing(kind: Kind, wanted: Wanted, left_out: Mapping[str, str]) -> ManifestError:
    if left_out:
        return ManifestError("; ".join(f"{row}: {why}" for row, why in left_out.items()))
    return nothing_found(kind, wanted)
