"""Thresholds that meet a target: every combination of a few rules' stops, counted at once on the cube."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from filters.bits import BITS
from filters.cube import Cube

PREFERRED = ("length_units", "completeness", "clip_similarity")
"""Rules that are moved unless others are named: they judge how much a caption says, not whether it is dirt."""

MOST_MOVED = 5
LANGUAGES = 5
FEWEST_ROWS = 50
"""Languages with fewer rows are not compared: one row is too large a share of them."""


class Cost(BaseModel):
    """What moving one rule does."""

    model_config = ConfigDict(frozen=True)

    rule: str
    before: float
    after: float
    alone: int = Field(description="Rows gained, or lost where negative, if only this rule moves.")


class Share(BaseModel):
    """How much of a language is kept, before and after."""

    model_config = ConfigDict(frozen=True)

    language: str
    rows: int
    before: int
    after: int


class Proposal(BaseModel):
    """Stops that come closest to a goal."""

    model_config = ConfigDict(frozen=True)

    goal: int = Field(description="Rows to keep.")
    before: int
    kept: int
    judged: int
    settings: dict[str, int] = Field(description="Stops of the rules that move.")
    costs: tuple[Cost, ...]
    losing: tuple[Share, ...] = Field(description="Languages that lose the largest part of what they kept.")
    least: int = Field(description="Rows kept with all of these rules at their strictest stops.")
    most: int = Field(description="Rows kept with all of these rules at their loosest stops.")
    tried: int = Field(description="Combinations that were counted.")
    rules: tuple[str, ...] = Field(description="Rules that could move.")

    @property
    def within_reach(self) -> bool:
        """Whether the goal lies between what the strictest and the loosest stops keep."""
        return self.least <= self.goal <= self.most


def rules_to_move(cube: Cube, named: Sequence[str] = ()) -> list[str]:
    """Return which rules a solver may move: those named, else the preferred ones, else the first that there are.

    Raises:
        ValueError: A rule has no stops, or there are too many, or none.
    """
    if unknown := [name for name in named if name not in cube.stops]:
        raise ValueError(
            f"rule {unknown[0]!r} cannot be moved; rules with stops here are {', '.join(cube.rules) or 'none'}"
        )
    chosen = sorted(set(named) or set(PREFERRED) & set(cube.stops), key=lambda rule: (BITS.get(rule, 64), rule))
    chosen = chosen or sorted(cube.stops, key=lambda rule: (BITS.get(rule, 64), rule))[: len(PREFERRED)]
    if not chosen:
        raise ValueError("this policy has no rule with a number to move; the source passes the step whole")
    if len(chosen) > MOST_MOVED:
        raise ValueError(f"{len(chosen)} rules have too many combinations; name at most {MOST_MOVED}")
    return chosen


def counts_of(cube: Cube, rules: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the rows kept at every combination of these rules' stops, all others as they are.

    Args:
        cube: What to count.
        rules: One axis each.

    Returns:
        Rows kept, shape (stops of the first rule, stops of the second, ...).
    """
    cells, columns = cube.arrays, [cube.rules.index(rule) for rule in rules]
    now = np.array([cube.current[rule] for rule in cube.rules])
    now[columns] = 0
    good = (cells.digits > now).all(axis=1)
    found = np.zeros([len(cube.stops[rule]) for rule in rules], dtype=np.int64)
    strictest = tuple(cells.digits[good, column].astype(np.int64) - 1 for column in columns)
    np.add.at(found, strictest, cells.rows[good])
    for axis in range(found.ndim):
        # A row is kept at its strictest stop and at all looser ones.
        found = np.flip(np.cumsum(np.flip(found, axis), axis=axis), axis)
    return found


def propose(cube: Cube, goal: int, move: Sequence[str] = (), at_most: bool = False, within: float = 0) -> Proposal:
    """Return the stops that keep closest to a number of rows, with the smallest move among equals.

    Args:
        cube: Of one source.
        goal: Rows to keep.
        move: Rules that may move; `rules_to_move` says which when left empty.
        at_most: Whether the goal is a budget, that no choice may exceed where any keeps within it.
        within: Share of the goal by which choices may miss it and still count as equal.

    Raises:
        ValueError: A rule cannot be moved.
    """
    rules = rules_to_move(cube, move)
    counts = counts_of(cube, rules)
    now = tuple(cube.current[rule] for rule in rules)
    places = np.indices(counts.shape).reshape(len(rules), -1)
    steps = np.abs(places - np.array(now)[:, None])
    kept = counts.ravel()
    distance = np.maximum(np.abs(kept - goal) - within * goal, 0)
    if at_most and (kept <= goal).any():
        distance = np.where(kept <= goal, distance, np.inf)
    # Closest, then fewest steps, then fewest rules, then loosest; so there is one answer.
    best = np.lexsort((np.arange(len(kept)), (steps > 0).sum(axis=0), steps.sum(axis=0), distance))[0]
    settings = {
        rule: int(place) for rule, place, stays in zip(rules, places[:, best], now, strict=True) if place != stays
    }
    before = int(counts[now])
    return Proposal(
        goal=goal,
        before=before,
        kept=int(kept[best]),
        judged=cube.samples(),
        settings=settings,
        costs=tuple(
            Cost(
                rule=rule,
                before=cube.stops[rule][cube.current[rule]],
                after=cube.stops[rule][at],
                alone=cube.kept({rule: at}) - before,
            )
            for rule, at in settings.items()
        ),
        losing=_losing(cube, settings),
        least=int(counts[(-1,) * len(rules)]),
        most=int(counts[(0,) * len(rules)]),
        tried=counts.size,
        rules=tuple(rules),
    )


def _losing(cube: Cube, settings: dict[str, int]) -> tuple[Share, ...]:
    before, after = cube.kept_by_group(), cube.kept_by_group(settings)
    shares = [
        Share(language=name, rows=cube.samples(name), before=before[name], after=after[name]) for name in cube.groups
    ]
    lost = [each for each in shares if each.after < each.before and each.rows >= FEWEST_ROWS]
    return tuple(sorted(lost, key=lambda each: (each.after / each.before, each.language))[:LANGUAGES])
