"""What an evaluation costs, told before it begins: rows, examples, and the hours of heads that are trained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from infra.storage import Store
from pipelines.graph import Step
from stages.evaluations.choice import Choice
from stages.evaluations.costs import Sizes, cost_of, flops_per_second, vision_config
from stages.manifest import find
from stages.quantities import duration

LONG_SECONDS = 600.0
"""Rows that take longer are named, with the settings that make them shorter."""
SHORTER = {
    "linear_probe": "--set linear_probe.augment=false computes features once, --set linear_probe.baselines=false "
    "halves it",
    "segmentation": "--set segmentation.iterations=100 --set segmentation.crop_size=96 (whole patches) "
    "--set segmentation.channels=32 --set segmentation.learning_rate=0.001",
}


class Price(NamedTuple):
    """One row of one checkpoint."""

    row: str
    protocol: str
    pictures: int
    seconds: float


def prices(store: Store, step: Step, sizes: Mapping[str, Sizes]) -> list[Price]:
    """Return what the rows of one benchmark step cost that train a head, on one core of this machine.

    Other rows look at each example once, or a model of the user's own size writes: that is not foreseen here.
    """
    rows = step.spec.parameters["rows"]
    choices = {name: Choice.model_validate(rows[name]) for name in rows if sizes[name].training}
    checkpoint = find(store, step.spec.inputs[0])
    config = vision_config(store, checkpoint) if checkpoint and choices else None
    if config is None:
        return []
    speed = flops_per_second(config)
    costs = {name: cost_of(config, choice, sizes[name]) for name, choice in choices.items()}
    return [
        Price(name, choices[name].protocol, cost.pictures, cost.flops / speed) for name, cost in costs.items() if cost
    ]


def told(store: Store, steps: Sequence[Step], sizes: Mapping[str, Sizes]) -> Iterator[str]:
    """Yield sentences: how much is measured, roughly how long it trains heads, and how to make that shorter."""
    for step in steps:
        if step.spec.stage != "benchmark":
            continue
        rows = step.spec.parameters["rows"]
        examples = sum(sizes[name].examples for name in rows)
        text = f"{step.spec.artifact}: {len(rows)} rows of {examples:,} examples"
        # What a GPU takes is not known to the machine that asks.
        found = [] if step.spec.placement.get("gpus_per_worker") else prices(store, step, sizes)
        if found:
            total = duration(sum(each.seconds for each in found))
            text += f"; heads are trained for about {total} on one core of this machine"
        yield text
        long = [each for each in found if each.seconds > LONG_SECONDS]
        for each in long:
            yield f"  {each.row}: {each.pictures:,} pictures through an encoder, about {duration(each.seconds)}"
        for protocol in dict.fromkeys(each.protocol for each in long):
            yield f"  shorter: --limit N; {SHORTER[protocol]}; the page names every such departure"
