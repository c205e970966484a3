"""The trainings of a study: ordinary contrastive artifacts, each found where it stands, all on one order of data."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial

from infra.cluster import InlineCluster
from infra.storage import Store
from models.variants import Variant
from stages.manifest import Manifest, ManifestError
from stages.materialize import StageSpec, materialize, standing
from stages.ref import Ref
from stages.study.parameters import Parameters
from stages.training.task import Metrics
from stages.workspace import Workspace, read_file

FOLDER = "checkpoints/contrastive"
"""The artifacts lie below it, `checkpoints/contrastive/<variant>_s<seed>`: every command takes them by that name."""


@dataclass(frozen=True)
class Training:
    """One training of a study."""

    variant: Variant
    seed: int
    factor: float = 1.0
    """Of the learning rate."""
    screening: bool = False

    @property
    def name(self) -> str:
        """Return the last part of its artifact's name."""
        tried = f"_x{self.factor:g}".replace(".", "_") if self.factor != 1 else ""
        return f"{self.variant.name}_s{self.seed}{tried}{'_screen' if self.screening else ''}"


def plain_trainings(parameters: Parameters, variants: Sequence[Variant]) -> list[Training]:
    """Return every variant with every seed."""
    return [Training(variant, seed) for seed in parameters.seeds for variant in variants]


def raised_trainings(parameters: Parameters, variants: Sequence[Variant]) -> list[Training]:
    """Return the trials at raised learning rates, with every seed."""
    return [
        Training(each, seed, factor) for factor in parameters.raised for seed in parameters.seeds for each in variants
    ]


def spec_of(training: Training, parameters: Parameters, version: str, here: Workspace) -> StageSpec:
    """Return what makes one training's artifact."""
    steps = None
    if training.screening:
        steps = parameters.screen_steps
    elif training.factor != 1:
        steps = parameters.raised_steps
    given = parameters.trained(training.variant, training.seed, training.factor, steps)
    return StageSpec(
        stage="contrastive",
        artifact=Ref(name=f"{FOLDER}/{training.name}", version=version),
        parameters=given.model_dump(mode="json"),
        inputs=tuple(manifest.ref for manifest in here.inputs.values()),
        placement=asdict(here.placement),
    )


def _alone(spec: StageSpec, store: Store) -> Manifest:
    return materialize(spec, store, InlineCluster())


def _made(specs: Sequence[StageSpec], here: Workspace) -> Iterator[Manifest]:
    """Make artifacts, in the order of completion, as many side by side as there is room for.

    Trainings of one process are works of the cluster, and a worker goes on with the next. One of several processes
    takes a gang, which a thread of this process waits for.
    """
    if here.placement.workers == 1:
        cpus, gpus = here.placement.cpus_per_task, here.placement.gpus_per_worker
        work = partial(_alone, store=here.store)
        yield from here.cluster.map(work, specs, cpus=cpus, gpus=gpus, resources=here.placement.resources)
    elif specs:
        yield from _gangs(specs, here)


def _gangs(specs: Sequence[StageSpec], here: Workspace) -> Iterator[Manifest]:
    """Make each artifact on a gang of its own; after a failure no gang begins, and those that train end first."""
    together = min(len(specs), here.cluster.room(here.placement.gang))
    if together == 1:  # in this thread, which alone hears requests to stop
        yield from (materialize(spec, here.store, here.cluster) for spec in specs)
        return
    with ThreadPoolExecutor(together, thread_name_prefix="gang") as threads:
        made = [threads.submit(materialize, spec, here.store, here.cluster) for spec in specs]
        try:
            for each in as_completed(made):
                yield each.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def train_all(
    trainings: Sequence[Training], parameters: Parameters, version: str, here: Workspace
) -> dict[Training, Manifest]:
    """Return the checkpoint of each training, made now unless it stands.

    Raises:
        Drift: One stands and was made differently.
        ManifestError: Data or parameters do not allow training.
    """
    specs = {training: spec_of(training, parameters, version, here) for training in trainings}
    found = {spec.artifact: manifest for spec in specs.values() if (manifest := standing(spec, here.store))}
    missing = [spec for spec in specs.values() if spec.artifact not in found]
    stood = f"{len(found)} stood already" if found else ""
    here.progress(len(found), len(specs), "trainings", stood)
    for manifest in _made(missing, here):
        found[manifest.ref] = manifest
        here.progress(len(found), len(specs), "trainings", manifest.ref.name.rpartition("/")[2])
    return {training: found[spec.artifact] for training, spec in specs.items()}


def history_of(store: Store, checkpoint: Manifest) -> list[Metrics]:
    """Return what a checkpoint's training measured, step by step."""
    data = read_file(store, checkpoint, checkpoint.parts[0].files["history"])
    return [json.loads(line) for line in data.splitlines()]


def check_order(histories: Mapping[Training, Sequence[Metrics]]) -> None:
    """Make sure that all trainings of a seed read the same samples in the same order, as far as both go.

    Each step's history holds a digest over the samples of all steps up to it.

    Raises:
        ManifestError: Two differ: their losses cannot be compared.
    """
    longest: dict[int, tuple[Training, Sequence[Metrics]]] = {}
    for training, history in sorted(histories.items(), key=lambda item: -len(item[1])):
        other, known = longest.setdefault(training.seed, (training, history))
        for mine, theirs in zip(history, known, strict=False):
            if mine["rows_digest"] != theirs["rows_digest"]:
                raise ManifestError(
                    f"{training.name} and {other.name} read other samples at step {mine['step']:g}: they cannot be "
                    "compared; train the study under a version of its own (--version NAME)"
                )
