"""The paper's hyper-parameter study: many encoders of one size, trained alike and compared.

arXiv:2312.14238, section 3.2 and table 11: depth, head dimension and MLP ratio vary at a fixed number of parameters;
accuracy without training, speed and stability are held against each other. The trainings are ordinary contrastive
artifacts below `checkpoints/contrastive/`: those that stand are found, so a killed study repeats none.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from models.variants import Variant
from stages.manifest import Ledger, Manifest, Part, digest_of
from stages.study.measuring import Trained, measure_trained
from stages.study.page import render
from stages.study.parameters import Parameters
from stages.study.speed import measure_speed
from stages.study.stability import end_loss
from stages.study.summary import Row, row
from stages.study.training import (
    Training,
    check_order,
    history_of,
    plain_trainings,
    raised_trainings,
    train_all,
)
from stages.study.verdict import Verdict, judge
from stages.workspace import Output, Workspace

__all__ = ["VERSION", "Parameters", "run"]

VERSION = 2
SPEED = "speed"


def _screened(
    variants: Sequence[Variant], parameters: Parameters, output: Output, here: Workspace
) -> tuple[list[Variant], list[str]]:
    """Return the variants that go on after a short training, and a sentence for each that does not."""
    if not parameters.screen_steps:
        return list(variants), []
    short = [Training(variant, parameters.seeds[0], screening=True) for variant in variants]
    made = train_all(short, parameters, output.ref.version, here)
    ends = {training.variant: end_loss(history_of(here.store, made[training])) for training in short}
    losses = {variant: math.inf if loss is None else loss for variant, loss in ends.items()}
    keep = max(2, round(parameters.screen_keep * len(variants)))
    best = sorted(variants, key=lambda each: losses[each])[:keep]
    stopped = [
        f"{each.name}: stopped early, loss {losses[each]:.3f} after {parameters.screen_steps} steps"
        for each in variants
        if each not in best
    ]
    return [each for each in variants if each in best], stopped


def _measured(
    checkpoints: Mapping[Training, Manifest], parameters: Parameters, output: Output, here: Workspace
) -> dict[Training, Part]:
    items = [Trained(training, checkpoint) for training, checkpoint in checkpoints.items()]
    work = partial(measure_trained, parameters=parameters, output=output)
    listed = [(item.key, digest_of(item.checkpoint.digest), item) for item in items]
    parts = {part.key: part for part in here.map_parts(output, work, listed, unit="trained variants measured")}
    return {item.training: parts[item.key] for item in items}


def _publish_speed(variants: Sequence[Variant], parameters: Parameters, output: Output) -> Part:
    """Time all variants in one process, alone on its core or GPU."""
    # The one place of a manifest that a clock has a say in: speed is a finding, and nothing is made of a study.
    found = measure_speed(variants, parameters)
    return output.part(SPEED, _digest(variants), Ledger(listed=0, kept=0), {}, found)


def _digest(variants: Sequence[Variant]) -> str:
    return digest_of([each.name for each in variants])


def _timed(variants: Sequence[Variant], parameters: Parameters, output: Output, here: Workspace) -> Part:
    """Return the speeds, measured now unless an earlier attempt has; nothing else of the study runs meanwhile."""
    if standing := output.done(SPEED, _digest(variants)):
        return standing
    here.progress(0, 1, "timings")
    work = partial(_publish_speed, parameters=parameters, output=output)
    gpus = here.placement.gpus_per_worker
    (part,) = here.cluster.map(work, [variants], gpus=gpus, resources=here.placement.resources)
    here.progress(1, 1, "timings")
    return part


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Train, measure and compare all variants; the page says what is within noise and which variant to take.

    Raises:
        ManifestError: Fewer than two variants fit the budget, or two trainings of a seed read other data.
    """
    variants, left_out = parameters.variants()
    variants, stopped = _screened(variants, parameters, output, here)
    wanted = [*plain_trainings(parameters, variants), *raised_trainings(parameters, variants)]
    checkpoints = train_all(wanted, parameters, output.ref.version, here)
    histories = {training: history_of(here.store, made) for training, made in checkpoints.items()}
    check_order(histories)
    parts = _measured(checkpoints, parameters, output, here)
    speed = _timed(variants, parameters, output, here)

    found = {training: part.facts for training, part in parts.items()}
    rows = [row(each, parameters, speed.facts[each.name], found, histories) for each in variants]
    verdict = judge(rows)
    page = render(
        title=f"Variants of {parameters.budget:,.0f} parameters: {output.ref}",
        rows=rows,
        verdict=verdict,
        left_out=[*left_out, *stopped],
        parameters=parameters,
        provenance={
            "study": str(output.ref),
            **{name: f"{made.ref} {made.digest}" for name, made in here.inputs.items()},
            "parameters": parameters.model_dump_json(),
        },
    )
    table = json.dumps([each.as_json() for each in rows], indent=1, sort_keys=True).encode()
    return output.commit(
        [*parts.values(), speed],
        totals=_totals(rows, verdict),
        reports={"page": ("variants.html", page.encode()), "table": ("variants.json", table)},
    )


def _totals(rows: Sequence[Row], verdict: Verdict) -> dict[str, Any]:
    text = "\n\n".join([f"**{verdict.reason}**", *verdict.noise])
    return {
        "recommended": verdict.chosen.variant.name,
        "variants": len(rows),
        "trainings": sum(len(each.all_failures) for each in rows),
        **{f"accuracy_{each.variant.name}": round(each.accuracy.value, 4) for each in rows},
        "markdown": text,
    }
