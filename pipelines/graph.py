"""The DAG of a recipe: which artifact is made from which, in an order that can be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from stages import filter as filter_stage
from stages import write_shards
from stages.materialize import StageSpec
from stages.ref import Ref

if TYPE_CHECKING:  # recipes import torch, which serving the flows can spare
    from pipelines.recipes.recipe import Recipe

NETWORK = "checkpoints/filtering_network"
CONTRASTIVE, GENERATIVE = "checkpoints/contrastive", "checkpoints/generative"
ALIGN, INSTRUCT = "checkpoints/align", "checkpoints/instruct"


@dataclass(frozen=True)
class Step:
    """One stage on one source, policy or model."""

    label: str
    spec: StageSpec
    system: str | None = None
    """Published chat system that the user asked the recipe to follow."""

    @property
    def artifact(self) -> str:
        """Return the name of what it makes."""
        return self.spec.artifact.name

    def changed(self, **specified: Any) -> Step:
        """Return the step with something else in its spec."""
        return replace(self, spec=self.spec.model_copy(update=specified))


class _Builder:
    def __init__(self, recipe: Recipe, version: str) -> None:
        self.recipe, self.version, self.steps = recipe, version, list[Step]()

    def add(self, stage: str, artifact: str, parameters: BaseModel, inputs: Sequence[str] = ()) -> None:
        spec = StageSpec(
            stage=stage,
            artifact=Ref(name=artifact, version=self.version),
            parameters=parameters.model_dump(mode="json"),
            inputs=tuple(Ref(name=name, version=self.version) for name in inputs),
            placement=self.recipe.placement.get(stage, {}),
        )
        tail = artifact.partition("/")[2]
        label = stage if tail in ("", stage) else f"{stage} {tail}"
        self.steps.append(Step(label, spec, self.recipe.system))


def data_steps(recipe: Recipe, version: str) -> list[Step]:
    """Return the steps from url lists to shards."""
    build = _Builder(recipe, version)
    sources = recipe.sources
    for each in sources:
        build.add("list_urls", f"listing/{each.name}", each.listing)
    # Trusted sources first: the filtering network waits for them, and the others download meanwhile.
    for each in sorted(sources, key=lambda source: not source.trusted):
        build.add("download", f"pool/{each.name}", each.download, [f"listing/{each.name}"])
        if each.trusted and each is [s for s in sorted(sources, key=lambda s: not s.trusted) if s.trusted][-1]:
            trusted = [s.name for s in sources if s.trusted]
            needs = [f"{kind}/{name}" for kind in ("pool", "listing") for name in trusted]
            if recipe.asks_the_network:
                build.add("filtering_network", NETWORK, recipe.filtering_network, needs)
    for each in sources:
        scoring = recipe.scoring(each)
        network = [NETWORK] if scoring.clip_model is None else []
        build.add("score", f"signals/{each.name}", scoring, [f"listing/{each.name}", f"pool/{each.name}", *network])
    for policy in ("clean", "caption_quality"):
        for each in sources:
            parameters = filter_stage.Parameters(
                source=each.name,
                policy=each.clean if policy == "clean" else each.caption_quality,
                truth=recipe.truth,
            )
            before = [f"verdicts/clean/{each.name}"] if policy != "clean" else []
            needs = [f"signals/{each.name}", f"pool/{each.name}", *before]
            build.add("filter", f"verdicts/{policy}/{each.name}", parameters, needs)
    for policy in ("clean", "caption_quality"):
        needs = [f"{kind}/{each.name}" for kind in (f"verdicts/{policy}", "pool", "signals") for each in sources]
        shards = write_shards.Parameters(policy=policy, rows_per_shard=recipe.rows_per_shard, seed=recipe.seed)
        build.add("write_shards", f"shards/{policy}", shards, needs)
    return build.steps


def train_steps(recipe: Recipe, version: str) -> list[Step]:
    """Return the steps from shards to evaluated and exported checkpoints.

    The drawn world needs no data for its language: that step then waits for nothing.
    """
    build = _Builder(recipe, version)
    given = recipe.language.documents or recipe.language.pretrained is not None
    from_captions = [] if given else ["shards/clean"]
    build.add("language", "checkpoints/language", recipe.language, from_captions)
    build.add("contrastive", CONTRASTIVE, recipe.contrastive, [recipe.contrastive.shards, "checkpoints/language"])
    build.add("generative", GENERATIVE, recipe.generative, [recipe.generative.shards, CONTRASTIVE])
    told = _add_conversations(build, recipe)
    for artifact, taught in ((ALIGN, recipe.align), (INSTRUCT, recipe.instruct)):
        if taught is not None:
            joined = [taught.encoder, "checkpoints/language"] if taught.start is None else [taught.start]
            build.add("instruct", artifact, taught, [*told, *joined])
    trained_on = {
        "contrastive": recipe.contrastive.shards,
        "generative": recipe.generative.shards,
        "instruct": told[0],  # of several sources the first; the stage itself measures on all of them
    }
    for judge in recipe.evaluations:
        data = [trained_on[judge.kind]] if judge.held_out else []
        build.add("evaluate", f"evaluations/{judge.kind}", judge, [f"checkpoints/{judge.kind}", *data])
    for kind, chosen in recipe.benchmarks.items():
        build.add("benchmark", f"benchmarks/{kind}", chosen, [f"checkpoints/{kind}"])
    judged = {judge.kind for judge in recipe.evaluations}
    for each in recipe.exports:
        # The numbers of the evaluation go into the model card.
        numbers = [f"evaluations/{each.kind}"] if each.kind in judged else []
        build.add("export", f"exports/{each.kind}", each, [f"checkpoints/{each.kind}", *numbers])
    return build.steps


def _add_conversations(build: _Builder, recipe: Recipe) -> list[str]:
    """Add what the chat model learns from, an artifact for each source of a user's own; return the names."""
    if not recipe.instruction_data:
        captions = ["shards/caption_quality"] if recipe.conversations.captions else []
        build.add("conversations", "conversations", recipe.conversations, captions)
        return ["conversations"]
    names = []
    for source in recipe.instruction_data:
        own = recipe.conversations.model_copy(update={"scenes": 0, "captions": False, "own": source})
        names.append(f"conversations/{source.name}")
        build.add("conversations", names[-1], own)
    return names


def everything_after(steps: Sequence[Step], chosen: Sequence[Step]) -> list[Step]:
    """Return the chosen steps and all that depend on them, in order."""
    reached = {step.artifact for step in chosen}
    result = []
    for step in steps:
        if step.artifact in reached or any(ref.name in reached for ref in step.spec.inputs):
            reached.add(step.artifact)
            result.append(step)
    return result


def everything_before(steps: Sequence[Step], wanted: Sequence[Ref]) -> list[Step]:
    """Return the steps that make some artifacts and all that these are made from, in order."""
    needed, result = set(wanted), list[Step]()
    for step in reversed(steps):
        if step.spec.artifact in needed:
            needed.update(step.spec.inputs)
            result.insert(0, step)
    return result


def with_version(steps: Sequence[Step], changed: Sequence[Step], version: str) -> list[Step]:
    """Return the changed steps under a new version; inputs that are not changed keep theirs."""
    names = {step.artifact for step in changed}
    result = []
    for step in steps:
        if step.artifact not in names:
            continue
        inputs = tuple(Ref(name=ref.name, version=version) if ref.name in names else ref for ref in step.spec.inputs)
        artifact = Ref(name=step.artifact, version=version)
        result.append(step.changed(artifact=artifact, inputs=inputs))
    return result
