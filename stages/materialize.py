"""Make an artifact once: found when it stands, refused when it stands with other parameters."""

import importlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.cluster import Cluster
from infra.lease import Lease, LeaseHeld
from infra.scratch import scratch_folder
from infra.storage import Store
from stages.aliases import promoted, refuse_reserved
from stages.failures import forget_failure
from stages.fence import lease_of
from stages.forecasts import held_against
from stages.manifest import Manifest, ManifestError, find, load
from stages.quarantine import keys_in
from stages.ref import Ref
from stages.workspace import Output, Placement, Progress, Workspace

STAGES = (
    "list_urls",
    "download",
    "filtering_network",
    "score",
    "filter",
    "write_shards",
    "language",
    "contrastive",
    "generative",
    "conversations",
    "instruct",
    "evaluate",
    "export",
)
ASIDE = ("pilot", "reshard", "takedown", "adopt", "finetune", "distill", "benchmark", "follow", "variants")
"""No recipe has these by itself; each has a command."""


class StageSpec(BaseModel):
    """One stage to run: what to make, from what, with which parameters.

    A stage is a module `stages.<stage>` with `VERSION` (bumped by hand when its code changes
    a result), `Parameters` (a frozen pydantic model) and
    `run(parameters, output, here) -> Manifest`. A module whose artifact may be added to names
    in `GROWS` the parameter, a mapping, that more entries may join.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    artifact: Ref
    parameters: dict[str, Any]
    inputs: tuple[Ref, ...] = ()
    placement: dict[str, Any] = Field(default_factory=dict)


class Drift(RuntimeError):
    """A finished version stands with other parameters; the message shows the difference and the ways out."""


def module_of(stage: str) -> ModuleType:
    """Return the module of a stage by name.

    Raises:
        ValueError: No such stage.
    """
    if stage not in STAGES and stage not in ASIDE:
        raise ValueError(f"no stage {stage!r}; the stages are {', '.join(STAGES)}")
    return importlib.import_module(f"stages.{stage}")


def parameters_of(spec: StageSpec, store: Store) -> BaseModel:
    """Return what a stage is handed: what is asked for and, of a stage that grows, what stands of its artifact.

    Entries that are asked for go before those that stand under the same name, so that a difference shows.
    """
    module = module_of(spec.stage)
    asked: BaseModel = module.Parameters.model_validate(spec.parameters)
    made = find(store, spec.artifact) if hasattr(module, "GROWS") else None
    if made is None or made.identity.get("code") != module.VERSION:
        return asked
    fields = asked.model_dump(mode="json")
    fields[module.GROWS] = {**made.identity["parameters"][module.GROWS], **fields[module.GROWS]}
    grown: BaseModel = module.Parameters.model_validate(fields)
    return grown


def request_of(spec: StageSpec, store: Store) -> dict[str, Any]:
    """Return what is asked for: stage, code version, parameters; known before any input stands."""
    return {
        "stage": spec.stage,
        "code": module_of(spec.stage).VERSION,
        "parameters": parameters_of(spec, store).model_dump(mode="json"),
    }


def identity_of(spec: StageSpec, store: Store) -> dict[str, Any]:
    """Return everything that decides the result: what is asked for, and digests of the inputs."""
    return {**request_of(spec, store), "inputs": {ref.name: load(store, ref).digest for ref in spec.inputs}}


def difference(old: Any, new: Any, path: str = "") -> list[str]:
    """Return one line per value that differs, `path: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in sorted({*old, *new}):
            lines += difference(
                old.get(key, "(absent)"), new.get(key, "(absent)"), f"{path}.{key}" if path else str(key)
            )
        return lines
    if old == new:
        return []
    return [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True) if not isinstance(value, str) else value
    return text if len(text) <= 120 else text[:117] + "..."


def _adds(stage: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Say whether a new identity is the old one with more entries in what may grow."""
    name = getattr(module_of(stage), "GROWS", None)
    if name is None:
        return False
    now, before = new["parameters"], old["parameters"].get(name, {})
    narrowed = {**now, name: {entry: value for entry, value in now[name].items() if entry in before}}
    return {**new, "parameters": narrowed} == old


def standing(spec: StageSpec, store: Store) -> Manifest | None:
    """Return the finished artifact if it stands with exactly this identity, or holds more where it may grow.

    Returns:
        None where nothing is finished, or what is finished lacks some of what may be added.

    Raises:
        Drift: It stands with another identity.
    """
    manifest = find(store, spec.artifact)
    if manifest is None:
        return None
    identity = identity_of(spec, store)
    lines = difference(manifest.identity, identity)
    if not lines:
        return manifest
    if _adds(spec.stage, manifest.identity, identity):
        return None
    raise Drift(
        f"{spec.artifact} stands and was made differently:\n  "
        + "\n  ".join(lines)
        + "\nEither give the new result a name of its own (--version NAME), or replace what stands (--force)."
    )


def lacks_parts(spec: StageSpec, store: Store) -> bool:
    """Say whether a version stands with just this identity, but without parts that could not be made.

    Made again by force, these alone are tried again.
    """
    try:
        manifest = find(store, spec.artifact)
        return (
            manifest is not None and bool(keys_in(manifest.totals)) and manifest.identity == identity_of(spec, store)
        )
    except ManifestError:
        return False


def materialize(
    spec: StageSpec, store: Store, cluster: Cluster, *, force: bool = False, progress: bool = True
) -> Manifest:
    """Return the artifact of a spec, made now unless it stands.

    Args:
        spec: What to make.
        store: Where artifacts live.
        cluster: Where the work runs.
        force: Replace a finished version, also one made with other parameters.
        progress: Whether to keep `progress.json` up to date.

    Raises:
        Drift: The version stands with other parameters and `force` is not given.
        ManifestError: The version's name is an alias or reserved, or another run makes this artifact now.
    """
    if promoted(store, spec.artifact) is not None:
        raise ManifestError(f"{spec.artifact} is a promoted name, not a version; give the result another one")
    refuse_reserved(spec.artifact)
    if not force and (manifest := standing(spec, store)):
        return manifest
    with _alone(store, spec.artifact) as fence:
        return _materialize(spec, store, cluster, force, progress, fence)


@contextmanager
def _alone(store: Store, ref: Ref) -> Iterator[int]:
    """Hold the lease on an artifact; yield its number, 0 for those of a `torchrun` that the first one speaks for."""
    if int(os.environ.get("RANK", "0")):
        yield 0
        return
    try:
        lease = Lease.take(store, lease_of(ref), os.environ.get("INTERNVL_JOB", "a command"))
    except LeaseHeld as held:
        raise ManifestError(f"{held}; wait for its end, stop it, or give this one a name of its own") from None
    try:
        yield lease.number
    finally:
        lease.give_back()


def _spent(cluster: Cluster) -> float:
    """Return the CPU seconds that this process and a cluster's works have computed so far."""
    return time.process_time() + cluster.cpu_seconds_elsewhere


def _materialize(
    spec: StageSpec, store: Store, cluster: Cluster, force: bool, progress: bool, fence: int
) -> Manifest:
    if force:
        whole = not lacks_parts(spec, store)
        store.remove(spec.artifact.key("manifest.json"))
        if whole:
            store.remove(spec.artifact.key("markers"))
    elif manifest := standing(spec, store):
        return manifest
    # Of an earlier attempt: pages would take it for what happens now.
    store.remove(spec.artifact.key("progress.json"))
    forget_failure(store, spec.artifact)
    module, parameters = module_of(spec.stage), parameters_of(spec, store)
    output = Output(store=store, ref=spec.artifact, stage=spec.stage, identity=identity_of(spec, store), fence=fence)
    started, spent = time.time(), _spent(cluster)
    anew = not store.keys(spec.artifact.key("markers"))
    with scratch_folder(spec.stage) as scratch:
        here = Workspace(
            store=store,
            cluster=cluster,
            scratch=scratch,
            inputs={ref.name: load(store, ref) for ref in spec.inputs},
            placement=Placement(**spec.placement),
            progress=Progress(store, spec.artifact, fence) if progress else lambda *_, **__: None,
            earlier=find(store, spec.artifact),
        )
        made: Manifest = module.run(parameters, output, here)
    facts = {"started": started, "seconds": round(time.time() - started, 1), "placement": spec.placement}
    # Parts that stood before cost nothing now, and gangs are timed by their meters: neither would tell a rate.
    if anew and not spec.artifact.name.startswith("checkpoints/"):
        facts["cpu_seconds"] = round(_spent(cluster) - spent, 3)
    facts |= held_against(spec.artifact, store)
    store.write(spec.artifact.key("run.json"), json.dumps(facts).encode())
    return made
