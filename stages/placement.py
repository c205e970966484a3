"""Where and how wide a stage runs, and what it does when parts fail; no part of any result."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from infra.gang import GangSize
from stages.errors import ManifestError

Sharding = Literal["ddp", "fsdp2"]


@dataclass(frozen=True)
class Placement:
    """Where and how wide a stage runs; never part of a result's identity."""

    workers: int = 1
    """Training processes; with `min_workers` the most there may be."""
    min_workers: int | None = None
    """Training goes on with as few as these when machines are lost, and grows back to `workers`."""
    gpus_per_worker: int = 0
    cpus_per_task: float = 1.0
    part_tries: int = 3
    """How often a part is tried whose work raises or ends its process, where `max_quarantined_share` is above 0."""
    max_quarantined_share: float = 0.0
    """Of a stage's parts so many may fail for good: they are left out and listed. With 0 the first error ends it."""
    resources: dict[str, float] = field(default_factory=dict)
    """Of a Ray cluster's own, by name, what each task needs: tasks then run only where a machine offers them."""
    sharding: Sharding = "ddp"
    """How a model lies over the processes: whole on each, or in shards."""
    micro_batch_size: int | None = None
    """Rows of a process's share that are computed at once; all of them when left out. Where rows are weighed
    (conversations) it says how many packs there are: each holds so many on the mean."""
    max_packed_tokens: int | None = None
    """Most tokens that are computed at once, where rows are weighed."""
    max_packed_tiles: int | None = None
    """Most tiles of pictures that are computed at once, where rows are weighed."""
    data_workers: int = 0
    """Processes that make batches ahead of each training process."""
    activation_checkpointing: bool = False
    """Compute the inside of layers again for the backward pass instead of keeping it."""
    compile: bool = False
    """Compile each layer with torch.compile."""
    deterministic: bool = False
    """On a GPU too, the same run gives the same bits: slower kernels that add up in one order alone."""
    collective_timeout_seconds: float = 600.0
    """How long a step waits for a process that does not answer."""
    checkpoint_steps: int = 50
    states_kept: int = 2
    """Newest states of a running training that stay; fewer are never left by a removal."""
    best_metric: str | None = None
    """A number that each step measures (`loss`): the state with the best one stays too."""
    best_is: Literal["lower", "higher"] = "lower"
    on_failed_save: Literal["stop", "go_on"] = "stop"
    """What a training does whose state cannot be written (a full disk); it says so loudly either way."""
    drift_patience_seconds: float = 1800.0
    cache_bytes: int | None = None
    """Larger shards are read from the store by range, and each training process keeps so much of them on disk.

    None copies all."""

    def __post_init__(self) -> None:
        """Refuse what no placement can be.

        Raises:
            ManifestError: A value is unknown or out of its range.
        """
        known = get_args(Sharding)
        if self.sharding not in known:
            raise ManifestError(f"sharding {self.sharding!r} is unknown; choose one of {', '.join(known)}")
        least = self.workers if self.min_workers is None else self.min_workers
        if not 1 <= least <= self.workers:
            raise ManifestError(f"min_workers {least} must lie between 1 and workers ({self.workers})")
        for name in ("micro_batch_size", "max_packed_tokens", "max_packed_tiles"):
            if (given := getattr(self, name)) is not None and given < 1:
                raise ManifestError(f"{name} {given} must be at least 1, or left out")
        if self.part_tries < 1 or not 0 <= self.max_quarantined_share <= 1:
            raise ManifestError(
                f"part_tries {self.part_tries} must be at least 1, and max_quarantined_share "
                f"{self.max_quarantined_share} a share from 0 to 1"
            )
        if self.collective_timeout_seconds <= 0:
            raise ManifestError(f"collective_timeout_seconds {self.collective_timeout_seconds} must be above 0")
        if self.checkpoint_steps < 1 or self.states_kept < 1:
            raise ManifestError(
                f"checkpoint_steps {self.checkpoint_steps} and states_kept {self.states_kept} must be at least 1"
            )
        if self.best_is not in ("lower", "higher") or self.on_failed_save not in ("stop", "go_on"):
            raise ManifestError(
                f"best_is {self.best_is!r} must be lower or higher, and on_failed_save {self.on_failed_save!r} "
                "stop or go_on"
            )

    @property
    def gang(self) -> GangSize:
        """Return the processes that train together."""
        return GangSize(
            workers=self.workers,
            min_workers=self.min_workers,
            gpus_per_worker=self.gpus_per_worker,
            timeout_seconds=self.collective_timeout_seconds,
        )
