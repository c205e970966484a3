"""What a recipe's training needs of a cluster: memory, time, money, and how fast data has to come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from infra.storage import Store
from models.step_shape import Shape
from pipelines.clusters import Card, Gpus
from pipelines.graph import Step
from pipelines.plan_faults import Verdict, judge
from pipelines.plan_memory import Fit, both
from pipelines.plan_shapes import shapes_of
from pipelines.training_price import Training
from pipelines.utilisation import ASSUMED, Utilisation, utilisation
from stages.calibration import pieces_of
from stages.manifest import find
from stages.materialize import StageSpec
from stages.workspace import Placement

SAMPLE_BYTES = 30_000
"""Ours, where no shards stand yet: a picture of 256 pixels a side as JPEG, its caption and its facts."""
DECODED_PER_CORE = 400.0
"""Ours: pictures of 256 pixels a second that a core reads, decodes and crops; benchmarks/results/loader.json has
1,394 of 64 pixels, and arXiv:2605.08731 537 to 857 of ImageNet's larger ones for decoding alone."""
TWICE = 4 / 3
"""What a step takes whose micro batches are embedded a second time (GradCache): four forward passes, not three."""


@dataclass(frozen=True)
class Budget:
    """What one training stage needs."""

    training: Training
    gpus: int
    fits: tuple[Fit, ...]
    """Ways of lying over the processes, the placement's own first; none where nothing is trained."""
    utilisation: Utilisation | None
    """None where nothing is trained, or on a CPU that was not calibrated."""
    step_seconds: float
    step_flops: float
    """Of all processes: of the recipe's own data where a calibration looked at them, else at full length."""
    gpu_hours: float
    days: float
    dollars: float | None
    decode_cores: float
    gigabytes_per_second: float
    state: str
    said: tuple[str, ...] = ()
    """What of its placement the cluster does not fit."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        memory = [
            {
                "sharding": fit.sharding,
                "micro_batch": fit.rows,
                "largest_micro_batch": fit.largest,
                **fit.memory.as_json(),
            }
            for fit in self.fits
        ]
        return {
            **self.training.as_json(),
            "gpus": self.gpus,
            "memory": memory,
            "utilisation": self.utilisation.share if self.utilisation else None,
            "flops_per_second": self.utilisation.flops_per_second if self.utilisation else None,
            "utilisation_source": self.utilisation.source if self.utilisation else None,
            "step_seconds": self.step_seconds,
            "step_flops": self.step_flops,
            "gpu_hours_needed": self.gpu_hours,
            "days": self.days,
            "dollars": self.dollars,
            "decode_cores": self.decode_cores,
            "gigabytes_per_second": self.gigabytes_per_second,
            "state": self.state,
            "remarks": [*self.said],
        }


def budgets(
    steps: Sequence[Step],
    trainings: Sequence[Training],
    states: Mapping[str, str],
    store: Store,
    gpus: Gpus | None,
    *,
    dollars_per_hour: float | None = None,
    given: float | None = None,
) -> list[Budget]:
    """Return what each training stage needs of a cluster; without one, those whose speed on this CPU is known.

    Args:
        steps: Of the recipe.
        trainings: What `training_price` counted of them.
        states: By artifact, whether it stands.
        store: Where earlier runs left their meters.
        gpus: The cluster; a stage whose placement has fewer GPUs takes those alone.
        dollars_per_hour: Of one GPU.
        given: Share of the data sheet's peak to reckon with; the measured one, or else our assumption, when None.
    """
    specs = _specs(steps)
    shapes, found = shapes_of(specs), []
    for each in trainings:
        spec, shape = specs[each.stage], shapes[each.stage]
        count = min(gpus.count, each.gpus) if each.gpus and gpus else 0
        spec, fits, verdict = _placed(each, spec, shape, count, gpus)
        use = None
        if each.samples and verdict.runs and (count or not each.gpus):
            use = _speed(each, spec, shape, gpus.card if gpus and count else None, store, given)
        if gpus is None and use is None:
            continue
        fits = fits or (_fits(each, spec, shape, gpus) if each.samples else ())
        found.append(_budget(each, spec, count, fits, use, verdict.said, dollars_per_hour, store, states))
    return found


def _placed(
    each: Training, spec: StageSpec, shape: Shape, count: int, gpus: Gpus | None
) -> tuple[StageSpec, tuple[Fit, ...], Verdict]:
    """Return a training as it is placed on GPUs: a process each, and fewer rows at once where its own do not fit."""
    if not (each.samples and count and gpus):
        return spec, (), Verdict(True)
    spec = _with(spec, workers=count, min_workers=None)
    fits, whole = _fits(each, spec, shape, gpus), spec.parameters["schedule"]["global_batch_size"]
    verdict = judge(each, fits[0], global_batch=whole, packed=shape.packed, count=count, gpus=gpus)
    if verdict.rows is None:
        return spec, fits, verdict
    spec = _with(spec, micro_batch_size=verdict.rows)
    return spec, _fits(each, spec, shape, gpus), verdict


def _with(spec: StageSpec, **placed: int | None) -> StageSpec:
    return spec.model_copy(update={"placement": {**spec.placement, **placed}})


def _speed(
    each: Training, spec: StageSpec, shape: Shape, card: Card | None, store: Store, given: float | None
) -> Utilisation | None:
    if given is not None and card is not None:
        return Utilisation.of(given, card, "given")
    use = utilisation(each.stage, spec, shape, card, store)
    pieces = pieces_of(shape, Placement(**spec.placement), spec.parameters["schedule"]["global_batch_size"])[1]
    if use is not None and use.source.startswith(ASSUMED) and each.stage == "contrastive" and pieces > 1:
        return replace(
            use,
            flops_per_second=use.flops_per_second / TWICE,
            share=(use.share or 0) / TWICE,
            source=f"{use.source}, and micro batches are embedded twice",
        )
    return use


def _fits(each: Training, spec: StageSpec, shape: Shape, gpus: Gpus | None) -> tuple[Fit, ...]:
    return tuple(
        both(
            shape,
            each.parameters,
            each.trained,
            placement=Placement(**spec.placement),
            global_batch=spec.parameters["schedule"]["global_batch_size"],
            precision=spec.parameters["schedule"]["precision"],
            room=gpus.card.gigabytes * 10**9 if gpus and each.gpus else 0,
        )
    )


def _budget(
    each: Training,
    spec: StageSpec,
    count: int,
    fits: tuple[Fit, ...],
    use: Utilisation | None,
    said: tuple[str, ...],
    dollars_per_hour: float | None,
    store: Store,
    states: Mapping[str, str],
) -> Budget:
    steps = spec.parameters["schedule"]["steps"] if each.samples else 0
    flops = each.flops / steps if steps else 0.0
    if use and use.sample_flops:
        flops = use.sample_flops * spec.parameters["schedule"]["global_batch_size"]
    step = _step_seconds(flops, each.trained, count or spec.placement.get("workers", 1), fits, use) if steps else 0.0
    hours, per_second = step * steps * count / 3600, each.samples / (step * steps) if step else 0.0
    return Budget(
        each,
        count,
        fits,
        use,
        step,
        flops,
        hours,
        step * steps / 86400,
        None if dollars_per_hour is None else hours * dollars_per_hour,
        per_second / DECODED_PER_CORE,
        per_second * _sample_bytes(spec, store) / 1e9,
        states.get(str(spec.artifact), "missing"),
        said,
    )


def _step_seconds(flops: float, trained: int, devices: int, fits: tuple[Fit, ...], use: Utilisation | None) -> float:
    """Return the seconds of a step: each device's share of the FLOPs, and the weights that it updates."""
    if use is None:
        return 0.0
    updated = trained / (devices if fits[0].sharding == "fsdp2" else 1)
    return flops / devices / use.flops_per_second + updated * use.update_seconds


def _specs(steps: Sequence[Step]) -> dict[str, StageSpec]:
    """Return the specs of training stages by the names that prices have."""
    return {step.artifact.removeprefix("checkpoints/"): step.spec for step in steps}


def _sample_bytes(spec: StageSpec, store: Store) -> float:
    """Return the bytes of a sample in the shards that a stage reads; our figure where none stand."""
    for ref in spec.inputs:
        made = find(store, ref) if ref.name.startswith("shards/") else None
        if made is not None and made.ledger.kept:
            size = sum(sum(file.bytes for file in part.files.values()) for part in made.parts)
            return size / made.ledger.kept
    return float(SAMPLE_BYTES)
