"""Whether a training would run on a cluster as it is placed: what does not divide, what does not fit, what idles."""

from dataclasses import dataclass

from pipelines.clusters import Gpus
from pipelines.plan_memory import Fit
from pipelines.training_price import Training


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a placement, and whether anything can be reckoned with nonetheless."""

    runs: bool
    rows: int | None = None
    """Micro batch to reckon with where the placement's own does not fit."""
    said: tuple[str, ...] = ()


def judge(each: Training, fit: Fit, *, global_batch: int, packed: bool, count: int, gpus: Gpus) -> Verdict:
    """Return whether a training runs on `count` of a cluster's GPUs, by the trainer's own rules.

    Args:
        each: The training.
        fit: Its memory as placed.
        global_batch: Rows of a step, of all processes.
        packed: Whether rows come in packs: then one pack is computed at once, whatever is in it.
        count: GPUs that it takes.
        gpus: The cluster.
    """
    said = []
    if count < gpus.count:
        said.append(f"takes {count:,} of {gpus.count:,} GPUs, as many as its placement has workers")
    if global_batch % count:
        below, above = _around(global_batch, count)
        said.append(
            f"does not run: {global_batch:,} rows a step do not divide by {count:,} GPUs; take {below:,} or {above:,}"
        )
        return Verdict(False, said=tuple(said))
    card, asked = gpus.card, fit.memory.total / 1e9
    if asked <= card.gigabytes:
        return Verdict(True, said=tuple(said))
    share = 1 if packed else global_batch // count
    rows = max((size for size in range(1, fit.largest + 1) if share % size == 0), default=0)
    too_much = f"{asked:,.0f} GB do not fit into the {card.gigabytes} GB of an {card.name}"
    if not rows:
        said.append(f"does not run: {too_much}, {_least(fit)}")
        return Verdict(False, said=tuple(said))
    said.append(f"does not fit as placed: {too_much}; reckoned with micro batches of {rows:,} ({fit.rows:,} placed)")
    return Verdict(True, rows, tuple(said))


def _least(fit: Fit) -> str:
    other = "sharded (fsdp2)" if fit.sharding == "ddp" else "over more GPUs"
    return f"nor does one row at once; try it {other}"


def _around(whole: int, count: int) -> tuple[int, int]:
    """Return the nearest divisors below and above a number that is none."""
    below = next(number for number in range(count, 0, -1) if whole % number == 0)
    above = next(number for number in range(count, whole + 1) if whole % number == 0)
    return below, above
