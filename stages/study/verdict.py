"""What a study may conclude: what is within noise, and which variant to take, by rules that anyone can check."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from stages.study.comparing import Comparison, compare
from stages.study.summary import Row

FEW = 4
"""With fewer seeds than these, failures with all of them and with none are not told apart either (Fisher's exact
test: 10 % with three seeds, 3 % with four)."""
CHANCE = 1
"""So many failed trainings more or less may be chance, and decide nothing."""

RULE = (
    "The rule: all variants that are not told apart from the most accurate one could be as good; of these, those "
    "whose trainings failed least often, at the study's learning rate and at raised ones, one failure more counting "
    "as none; of these, the fastest once saturated."
)


@dataclass(frozen=True)
class Verdict:
    """Which variant to take, in words a reader can check against the table."""

    chosen: Row
    near: tuple[Row, ...]
    """The most accurate variant and all that are within noise of it."""
    compared: Comparison
    """By the accuracy that decides."""
    reason: str
    noise: tuple[str, ...]


def compared_by(kind: str, rows: Sequence[Row]) -> Comparison:
    """Return what one kind of accuracy tells apart."""
    return compare({each.variant.name: each.measured[kind] for each in rows})


def within_noise(rows: Sequence[Row], compared: Comparison) -> list[Row]:
    """Return the most accurate variant, and then all that are not told apart from it."""
    best = max(rows, key=lambda each: each.accuracy.value)
    others = [each for each in rows if each is not best]
    return [best, *(each for each in others if not compared.differ(best.variant.name, each.variant.name))]


def apart(rows: Sequence[Row], compared: Comparison) -> list[tuple[Row, Row]]:
    """Return the pairs (better, worse) that are told apart."""
    pairs = [pair for pair in combinations(rows, 2) if compared.differ(*(each.variant.name for each in pair))]
    return [(a, b) if a.accuracy.value > b.accuracy.value else (b, a) for a, b in pairs]


def judge(rows: Sequence[Row]) -> Verdict:
    """Return the recommended variant and why; see `RULE`."""
    kind, *others = rows[0].measured
    compared = compared_by(kind, rows)
    near = within_noise(rows, compared)
    least = min(each.failed for each in near)
    calm = [each for each in near if each.failed <= least + CHANCE]
    chosen = max(calm, key=lambda each: each.saturated)
    reason = (
        f"{chosen.variant.name}. {len(near)} of {len(rows)} variants could be the most accurate ({_names(near)}); "
        f"{len(calm)} of these failed least often ({_names(calm)}: {_failures(calm)}); of these it is the fastest, "
        f"{chosen.saturated:,.0f} pictures per second."
    )
    noise = (
        *_accuracy_noise(rows, near, compared),
        *(_second(each, rows) for each in others),
        *_other_noise(rows, calm, chosen),
    )
    return Verdict(chosen, tuple(near), compared, reason, noise)


def _failures(calm: Sequence[Row]) -> str:
    counts = sorted({each.failed for each in calm})
    return f"{' or '.join(map(str, counts))} of {len(calm[0].all_failures)} trainings each"


def _accuracy_noise(rows: Sequence[Row], near: Sequence[Row], compared: Comparison) -> list[str]:
    if compared.threshold is None or compared.spread is None:
        return ["With one seed there is no interval: any difference may be noise. Give three seeds or more."]
    told, pairs = apart(rows, compared), len(rows) * (len(rows) - 1) // 2
    best = near[0].variant.name
    lines = [
        f"Two variants differ by more than noise where their means are more than {100 * compared.threshold:.1f} "
        f"points apart: {len(told)} of {pairs} pairs do. One training scatters by {100 * compared.spread:.1f} points "
        "about what its variant and its seed come to."
    ]
    if told:
        lines.append("Told apart: " + "; ".join(_below(each, told) for each in rows if _worse(each, told)) + ".")
    if len(near) > 1:
        lines.append(f"Within noise of the most accurate, {best}: {_names(near[1:])}.")
    else:
        lines.append(f"{best} is above every other variant by more than noise.")
    if blind := [each for each in rows if _near_chance(each)]:
        lines.append(f"Not told from guessing: {_names(blind)}; train longer before anything is concluded of them.")
    return lines


def _worse(each: Row, told: Sequence[tuple[Row, Row]]) -> list[Row]:
    return [better for better, worse in told if worse is each]


def _below(each: Row, told: Sequence[tuple[Row, Row]]) -> str:
    return f"{each.variant.name} below {_names(_worse(each, told))}"


def _second(kind: str, rows: Sequence[Row]) -> str:
    """Return what another accuracy, which decides nothing, says to the same question."""
    compared = compared_by(kind, rows)
    best = max(compared.means, key=lambda name: compared.means[name])
    if compared.threshold is None:
        return f"By {kind}, which decides nothing here, {best} is highest."
    near = [name for name in compared.means if name != best and not compared.differ(best, name)]
    same = f"within noise of it: {', '.join(near)}" if near else "none is within noise of it"
    return (
        f"By {kind}, which decides nothing here, {best} is highest; {same} ({100 * compared.threshold:.1f} points)."
    )


def _other_noise(rows: Sequence[Row], calm: Sequence[Row], chosen: Row) -> list[str]:
    """Return what is uncertain beside accuracy: sizes, speed, few trials, one learning rate for all."""
    sizes = [int(each.cost["parameters"]) for each in rows]
    lines = [
        f"The variants have {min(sizes):,} to {max(sizes):,} parameters: whole heads make the largest "
        f"{max(sizes) / min(sizes) - 1:.0%} larger than the smallest, and accuracy and speed hold that too."
    ]
    slowest = float(chosen.cost["speed"]["saturated"]["low"])
    if even := [each for each in calm if each is not chosen and each.cost["speed"]["saturated"]["high"] >= slowest]:
        lines.append(f"As fast as {chosen.variant.name} within what the timings scatter: {_names(even)}.")
    if rows[0].trials and (seeds := len(rows[0].curves)) < FEW:
        lines.append(
            f"Each raised learning rate was tried with {seeds} seed{'s' * (seeds > 1)}: even that a "
            "variant always held there and another never did may be chance."
        )
    if faster := [each for each in rows if _learns_faster(each)]:
        lines.append(
            f"At a raised rate {_names(faster)} had a lower loss after as many steps: with rates of their own the "
            "variants might come in another order. One rate for all is the paper's way."
        )
    return lines


def _learns_faster(each: Row) -> bool:
    return any(
        not any(trial.failures)
        and trial.end_loss is not None
        and trial.plain_loss is not None
        and trial.end_loss < trial.plain_loss
        for trial in each.trials
    )


def _near_chance(each: Row) -> bool:
    chance = next(iter(each.chances.values()))
    return each.accuracy.low is None or each.accuracy.low <= chance


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(each.variant.name for each in rows)
