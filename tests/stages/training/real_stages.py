"""The four training stages as users run them, small: one world of drawn data, and runs of its stages.

Runs happen in forked processes (`forked_runs`), so that they may be killed; what a run measured is read back from
the checkpoint that it published, and its losses, bit for bit, from a trace.
"""

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from curve_mutations import mutate
from torch import Tensor, nn
from training_data import make_internvl_c, make_language, make_shards

from infra.cluster import InlineCluster
from infra.storage import Store
from models.grad_cache import accumulate
from stages import contrastive, conversations, generative, instruct, language
from stages.checkpoints import fetch
from stages.manifest import Manifest, load
from stages.ref import Ref
from stages.training import stepping
from stages.workspace import Output, Placement, Workspace

SAMPLES, BATCH = 48, 8
SCHEDULE = {"global_batch_size": BATCH, "learning_rate": 0.01, "warmup_steps": 3}


class Stage(NamedTuple):
    """A training stage at its smallest, with everything random switched on that it has."""

    module: ModuleType
    given: dict[str, Any]
    inputs: tuple[str, ...]

    def parameters(self, changed: Mapping[str, Any]) -> Any:
        """Return the stage's parameters; fields of the schedule are changed one by one."""
        schedule = {**SCHEDULE, **changed.get("schedule", {})}
        return self.module.Parameters.model_validate({**self.given, **changed, "schedule": schedule})


STAGES = {
    "language": Stage(
        language,
        {
            "documents": 160,
            "held_out_share": 0.2,
            "held_out": 8,
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "context_length": 64,
        },
        (),
    ),
    "contrastive": Stage(
        contrastive,
        {
            "patch_size": 12,
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "embed_dim": 16,
            "drop_path_rate": 0.1,
            "masked_image_size": 36,
            "mask_ratio": 0.3,
            "unmasked_steps": 3,
            "smallest_crop": 0.5,
            "patch_learning_rate_scale": 0.5,
            "layer_decay": 0.9,
            "held_out_share": 0.2,
            "held_out": 8,
        },
        ("shards/clean", "checkpoints/language"),
    ),
    "generative": Stage(
        generative,
        {"num_query_token": 4, "hard_negatives": 0.5, "image_negatives": True, "held_out_share": 0.2, "held_out": 8},
        ("shards/caption_quality", "checkpoints/contrastive"),
    ),
    "instruct": Stage(
        instruct,
        {
            "drop_path_rate": 0.1,
            "vision_learning_rate_scale": 0.5,
            "context_length": 128,
            "held_out_share": 0.2,
            "held_out": 8,
        },
        ("conversations", "checkpoints/contrastive", "checkpoints/language"),
    ),
}


def make_world(root: Path) -> Store:
    """Make what the stages read, once."""
    store = Store(str(root / "store"))
    make_shards(store, samples=SAMPLES)
    make_shards(store, "shards/caption_quality", samples=SAMPLES)
    make_internvl_c(store, make_language(store), root / "language")
    given = conversations.Parameters(scenes=SAMPLES)
    output = Output(store, Ref(name="conversations", version="t"), "conversations", given.model_dump())
    conversations.run(given, output, Workspace(store, InlineCluster(), root / "scratch"))
    return store


def ref_of(stage: str, version: str) -> Ref:
    """Return where a run of a stage publishes; each run has a version of its own."""
    return Ref(name=f"checkpoints/{stage}", version=version)


def workspace_of(
    store: Store, stage: str, folder: Path, versions: Mapping[str, str] | None = None, **placement: Any
) -> Workspace:
    """Return a stage's inputs, by default those of `make_world`, and its placement."""
    named = dict.fromkeys(STAGES[stage].inputs, "t") | dict(versions or {})
    inputs = {name: load(store, Ref(name=name, version=version)) for name, version in named.items()}
    return Workspace(store, InlineCluster(), folder, inputs, Placement(**{"checkpoint_steps": 3, **placement}))


def train_stage(
    root: Path,
    stage: str,
    version: str,
    given: dict[str, Any],
    placed: dict[str, Any],
    killed: dict[str, int] | None = None,
    mutation: str = "",
    versions: dict[str, str] | None = None,
) -> None:
    """Run a stage on the store in a world's folder, writing each step's own loss in hexadecimal.

    Args:
        root: The world.
        stage: Its name.
        version: Of the checkpoint; names the trace as well.
        given: Changed parameters.
        placed: Fields of the placement.
        killed: `step`, and the `rank` of the process that dies in it, after its first backward pass.
        mutation: A mistake of `curve_mutations` that the run makes.
        versions: Of inputs that another run made.
    """
    store, found = Store(str(root / "store")), STAGES[stage]
    mutate(mutation)
    stepping.accumulate = _traced(trace_of(root, stage, version, _rank()), killed)
    parameters = found.parameters(given)
    output = Output(store, ref_of(stage, version), stage, parameters.model_dump(mode="json"))
    here = workspace_of(store, stage, root / "scratch" / str(os.getpid()), versions, **placed)
    found.module.run(parameters, output, here)


def trace_of(root: Path, stage: str, version: str, rank: int) -> Path:
    """Return the file that holds the losses of a process."""
    return root / f"{stage}-{version}-{rank}.txt"


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _traced(trace: Path, killed: dict[str, int] | None) -> Callable[..., dict[str, Tensor]]:
    """Return `accumulate` as the loop calls it, that writes losses down and dies where it is asked to."""
    number = -1

    def traced(
        module: nn.Module,
        micro_batches: Sequence[Any],
        totals: Mapping[str, Tensor],
        backward: Callable[[Tensor], None],
        no_sync: Callable[[], AbstractContextManager[Any]],
    ) -> dict[str, Tensor]:
        nonlocal number
        number += 1

        def last(loss: Tensor) -> None:
            backward(loss)
            os.kill(os.getpid(), signal.SIGKILL)

        dies = killed is not None and killed == {"step": number, "rank": _rank()}
        losses = accumulate(module, micro_batches, totals, last if dies else backward, no_sync)
        with trace.open("a") as out:
            out.write(f"{float(losses['loss']).hex()}\n")
        return losses

    return traced


class Ended(NamedTuple):
    """What a run left behind."""

    files: dict[str, str]
    """sha256 of each file of the checkpoint."""
    history: list[dict[str, float]]
    losses: list[list[str]]
    """Of each process, in hexadecimal, those of steps that a killed run repeated included."""

    @property
    def curve(self) -> list[float]:
        """Each step's loss over the global batch, unrounded; of an undisturbed run."""
        return [sum(map(float.fromhex, each)) / len(each) for each in zip(*self.losses, strict=True)]


def ended(root: Path, stage: str, version: str, processes: int = 1) -> Ended:
    """Read what a run left behind."""
    store = Store(str(root / "store"))
    manifest: Manifest = load(store, ref_of(stage, version))
    folder = fetch(store, manifest, root / f"{stage}-{version}")
    return Ended(
        {role: file.sha256 for role, file in manifest.parts[0].files.items()},
        [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()],
        [trace_of(root, stage, version, rank).read_text().split() for rank in range(processes)],
    )
