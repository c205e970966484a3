"""Each real stage, killed at a random step and run again, ends bit for bit as if nothing had happened (T1)."""

import random
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forked_runs import Forks
from real_stages import BATCH, Ended, ended

STEPS = 9
KILLED = -signal.SIGKILL
pytestmark = pytest.mark.faults


class Way(NamedTuple):
    """How a stage is run: so many processes, each of which computes its share in so many micro batches or more."""

    stage: str
    processes: int
    pieces: int
    rank: int = 0
    """Of adapters in both towers of the chat model, in place of whole weights."""
    tokens: int | None = None
    """Most of a pack of conversations: steps then have more or fewer packs."""
    sharding: str = "ddp"

    def __str__(self) -> str:
        stage = f"{self.stage}{'-adapted' if self.rank else ''}"
        limits = [str(self.tokens)] if self.tokens else []
        return "-".join([stage, f"{self.processes}x{self.pieces}", *limits, self.sharding])

    def run(self, forks: Forks, world: Path, version: str, **killed: int) -> list[int]:
        """Run, or run again; return exit codes."""
        given: dict[str, Any] = {"schedule": {"steps": STEPS}}
        if self.rank:
            given["lora"] = {"vision": self.rank, "language": self.rank, "dropout": 0.1}
        return forks.run(
            world, self.processes, job="real_stages:train_stage", stage=self.stage, version=version,
            given=given, killed=killed or None,
            placed={
                "micro_batch_size": BATCH // (self.processes * self.pieces),
                "max_packed_tokens": self.tokens,
                "sharding": self.sharding,
            },
        )  # fmt: skip


@pytest.fixture(scope="session")
def runs(forks: Forks, world: Path) -> dict[Way, Ended]:
    """Hold what undisturbed runs left behind; `undisturbed` fills it."""
    return {}


def undisturbed(forks: Forks, world: Path, runs: dict[Way, Ended], way: Way) -> Ended:
    """Run a stage to its end, once for all tests of it."""
    if way not in runs:
        assert way.run(forks, world, f"whole-{way}") == [0] * way.processes, forks.said()
        runs[way] = ended(world, way.stage, f"whole-{way}", way.processes)
    return runs[way]


KILLS = [
    Way("language", 1, 1),
    Way("instruct", 1, 2),
    pytest.param(Way("instruct", 1, 2, rank=2), marks=pytest.mark.slow),
    Way("instruct", 2, 1, tokens=160),
    Way("contrastive", 1, 2),
    Way("generative", 1, 2),
    Way("contrastive", 2, 2),
    Way("generative", 2, 2),
]


@pytest.mark.parametrize("way", KILLS, ids=str)
def test_killed_and_run_again_it_ends_bit_for_bit_as_undisturbed(
    forks: Forks, world: Path, runs: dict[Way, Ended], way: Way
) -> None:
    expected = undisturbed(forks, world, runs, way)
    chance = random.Random(str(way))
    step, rank = chance.randrange(4, STEPS), chance.randrange(way.processes)
    version = f"killed-{way}"
    print(f"process {rank} dies in step {step}, with the gradients of its first micro batch of {way.pieces}")
    codes = way.run(forks, world, version, step=step, rank=rank)
    assert codes[rank] == KILLED and 0 not in codes, forks.said()
    assert way.run(forks, world, version) == [0] * way.processes, forks.said()
    found = ended(world, way.stage, version, way.processes)
    assert found.files == expected.files, "sha256 of weights, history and all else"
    for mine, theirs in zip(found.losses, expected.losses, strict=True):
        # States are written behind the training: the run went on from step 3, 6 or, where none was whole, 0.
        again = mine[step:]
        assert len(again) in {STEPS - saved for saved in range(0, step + 1, 3)}
        assert mine[:step] == theirs[:step] and again == theirs[-len(again) :]


PLACES = [
    *KILLS[1:],
    Way("language", 1, 2),
    Way("language", 2, 1),
    Way("instruct", 2, 1),
    Way("instruct", 2, 1, tokens=160, sharding="fsdp2"),
]


@pytest.mark.parametrize("way", PLACES, ids=str)
def test_processes_and_micro_batches_change_neither_samples_nor_losses(
    forks: Forks, world: Path, runs: dict[Way, Ended], way: Way
) -> None:
    alone = undisturbed(forks, world, runs, Way(way.stage, 1, 1, way.rank))
    found = undisturbed(forks, world, runs, way)
    assert len(found.curve) == STEPS
    assert [row["rows_digest"] for row in found.history] == [row["rows_digest"] for row in alone.history]
    assert found.curve == pytest.approx(alone.curve, rel=1e-5)
