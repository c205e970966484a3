"""The page of a study: what was found beside what the paper found, and what may be concluded."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from models.variants import PUBLISHED, Published, Variant
from stages.filter_report import TEMPLATES
from stages.study import drawing
from stages.study.comparing import METHOD
from stages.study.intervals import Mean
from stages.study.parameters import Parameters
from stages.study.stability import DEFINITIONS, Failure
from stages.study.summary import Row, Trial
from stages.study.verdict import RULE, Verdict

ACCURACIES = {
    "choose": "Accuracy is choosing, without training for it, the word that fits a picture where the rest of the "
    "caption is right: a mean over six slots, all languages and both splits of drawn scenes that no training shows.",
    "retrieval": "Retrieval is recall at one, a mean over both directions and, on drawn scenes, over languages and "
    "splits.",
}


def quantity(value: float) -> str:
    """Return a number of parameters or operations as people say it."""
    for unit, one in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= one:
            return f"{value / one:,.0f} {unit}" if value >= 100 * one else f"{value / one:,.3g} {unit}"
    return f"{value:,.0f}"


def percent(value: Mean) -> str:
    """Return a share with the half width of its interval."""
    if value.low is None or value.high is None:
        return f"{100 * value.value:.1f} %"
    return f"{100 * value.value:.1f} ± {50 * (value.high - value.low):.1f} %"


def below_best(each: Row, verdict: Verdict) -> str:
    """Return how many points of accuracy a variant lacks to the best one, and whether that is noise."""
    best = verdict.near[0]
    if each is best:
        return "best"
    points = 100 * (each.accuracy.value - best.accuracy.value)
    return f"{'≈ ' if each in verdict.near else ''}{points:.1f}".replace("-", "−")


def trial_words(trial: Trial) -> str:
    """Return how the trainings at a raised learning rate went."""
    if trial.end_loss is None or trial.plain_loss is None:
        return failure_words(trial.failures)
    held = f"loss {trial.end_loss:.2f} against {trial.plain_loss:.2f}"
    return f"{failure_words(trial.failures)}, {held}"


def failure_words(failures: Sequence[Failure | None]) -> str:
    """Return how many trainings held, and how the others failed."""
    bad = [each for each in failures if each is not None]
    why = [f"{each.reason}{'' if each.reason == 'learned nothing' else f' from step {each.step}'}" for each in bad]
    told = "; ".join(sorted(set(why)))
    return f"{len(failures) - len(bad)} of {len(failures)} held{f' ({told})' if told else ''}"


def _shape(variant: Variant) -> dict[str, Any]:
    return {
        "width": variant.width, "depth": variant.depth, "mlp": variant.fields["intermediate_size"],
        "heads": f"{variant.heads} × {variant.head_dim}",
    }  # fmt: skip


def _ours(number: int, each: Row, verdict: Verdict) -> dict[str, Any]:
    speed = each.cost["speed"]
    memory = each.cost["training_bytes"], each.cost["activation_bytes"]
    chosen = each is verdict.chosen
    return _shape(each.variant) | {
        "name": f"{number} {each.variant.name}{' ★' if chosen else ''}",
        "chosen": chosen,
        "parameters": quantity(each.cost["parameters"]),
        "macs": quantity(each.cost["macs"]),
        "speed": f"{speed['unsaturated']['value']:,.0f} / {speed['saturated']['value']:,.0f}",
        "below": below_best(each, verdict),
        "accuracies": [percent(value) for value in each.accuracies.values()],
        "memory": f"{memory[0] / 1e6:,.1f} + {memory[1] / 1e6:,.2f}",
        "spikes": f"{each.spikes}, {each.largest_spike:.2f}" if each.spikes else "0",
        "tail": f"{each.norm_tail:.2f}",
        "logits": f"{each.logits_start:,.1f} → {each.logits_end:,.1f}",
        "held": failure_words(each.failures),
        "trials": [trial_words(trial) for trial in each.trials],
    }


def _papers(each: Published) -> dict[str, Any]:
    best = max(row.accuracy for row in PUBLISHED)
    return _shape(each.variant) | {
        "name": each.name,
        "parameters": f"{each.parameters / 1e6:,.0f} M",
        "macs": f"{each.macs / 1e9:,.0f} G",
        "speed": f"{each.images_per_second:.1f} / {each.images_per_second_saturated:.1f}",
        "accuracy": f"{100 * each.accuracy:.1f} %",
        "below": f"{100 * (each.accuracy - best):.1f}".replace("-", "−") if each.accuracy < best else "best",
    }


def _panels(rows: Sequence[Row], chosen: Row) -> list[tuple[str, Markup]]:
    low, high = drawing.loss_range(rows)
    return [
        (f"{number} {each.variant.name}", drawing.curves(each, low, high, each is chosen))
        for number, each in enumerate(rows, start=1)
    ]


def _notes(rows: Sequence[Row], parameters: Parameters) -> list[str]:
    given, seeds = parameters.training.schedule, len(parameters.seeds)
    device, speed = rows[0].cost["device"], rows[0].cost["speed"]
    across = sorted({each.cost["speed"]["saturated"]["batch"] for each in rows})
    chances = "; ".join(f"{kind} by guessing {100 * chance:.1f} %" for kind, chance in rows[0].chances.items())
    kinds = " ".join(ACCURACIES[kind] for kind in rows[0].chances)
    return [
        f"{len(rows)} variants, {seeds} seed{'s' * (seeds > 1)} each, {given.steps:,} steps of "
        f"{given.global_batch_size:,} pairs at learning rate {given.learning_rate:g}; all variants of a seed read "
        "the same samples in the same order, which is checked.",
        f"{kinds} ({chances}.) ± is half of Student's 95 % interval over a variant's own seeds; the evaluation's "
        "pictures are the same for all, so their choice is not in it.",
        METHOD,
        f"Speed is that of the encoder on {device}: pictures per second at batch {speed['unsaturated']['batch']} / "
        f"at the fastest batch ({', '.join(map(str, across))}), medians of {parameters.rounds} rounds in which "
        "all variants take turns; bars show all rounds. Operations are multiply-accumulates of one picture, as the "
        "paper's FLOPs are.",
        f"Trials at raised rates take {parameters.raised_steps} steps with every seed: the same warm-up, and then "
        "the raised rate throughout. Their loss, and that of the same seeds at the study's rate after as many steps, "
        "is the mean over the last tenth of the steps and over the seeds that held.",
        "Memory is weights, gradients and AdamW's state + what one more picture keeps for the backward pass, "
        "counted, in MB.",
    ]


def render(
    *,
    title: str,
    rows: Sequence[Row],
    verdict: Verdict,
    left_out: Sequence[str],
    parameters: Parameters,
    provenance: Mapping[str, str],
) -> str:
    """Return one self-contained page without scripts."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "variants.css"))
    return environment.get_template("variants.html.j2").render(
        title=title,
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        verdict=verdict,
        rule=RULE,
        kinds=list(rows[0].accuracies),
        factors=[f"{trial.factor:g}" for trial in rows[0].trials],
        ours=[_ours(number, each, verdict) for number, each in enumerate(rows, start=1)],
        papers=[_papers(each) for each in PUBLISHED],
        plot=drawing.accuracy_by_speed(rows, verdict),
        panels=_panels(rows, verdict.chosen),
        left_out=left_out,
        notes=_notes(rows, parameters),
        definitions=DEFINITIONS,
        provenance=provenance,
    )
