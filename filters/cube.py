"""Every row as one digit per rule: what any combination of thresholds would keep, without reading rows again.

A digit says how many of a rule's stops a row passes. Rows that no stop brings back are left out and counted.
All others are counted by their digits, so cubes of disjoint rows add up, and what is kept at thresholds `t` is
the number of rows whose digits all exceed `t`: exact for every combination, not only for one rule at a time.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from filters.cells import CELLS, Cells, Counted, fitted, named, pooled, summed


class Cube(BaseModel):
    """Counts of rows by stops passed; `Cube()` is zero and `+` is associative and commutative.

    Groups are languages in the cube of one source, and sources in one over several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stops: dict[str, tuple[float, ...]] = Field(default_factory=dict, description="rule -> thresholds, loosest first")
    current: dict[str, int] = Field(default_factory=dict, description="rule -> which stop its threshold is")
    cells: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="group -> hex digits, one per rule in the order of its name -> rows"
    )
    fixed_drops: dict[str, int] = Field(default_factory=dict, description="group -> rows that no stop brings back")
    declared: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, description="rule -> all its stops; more than `stops` where there were too many cells"
    )

    @property
    def rules(self) -> list[str]:
        """Reasons in the order of the digits."""
        return sorted(self.stops)

    @property
    def dropped_stops(self) -> dict[str, tuple[float, ...]]:
        """Stops that were given up to stay within the most cells."""
        gone = {rule: tuple(s for s in stops if s not in self.stops[rule]) for rule, stops in self.declared.items()}
        return {rule: stops for rule, stops in gone.items() if stops}

    @property
    def thresholds(self) -> dict[str, float]:
        """Where each rule is now."""
        return {rule: stops[self.current[rule]] for rule, stops in self.stops.items()}

    @property
    def groups(self) -> list[str]:
        """Languages, or sources."""
        return sorted({*self.cells, *self.fixed_drops})

    @cached_property
    def arrays(self) -> Cells:
        """The cells as arrays; groups as numbers in `groups`."""
        names, rules = self.groups, len(self.stops)
        keys = [key for name in names for key in self.cells.get(name, {})]
        read = np.frombuffer("".join(keys).encode(), dtype=np.uint8).reshape(len(keys), rules)
        sizes = [len(self.cells.get(name, {})) for name in names]
        rows = np.array([count for name in names for count in self.cells.get(name, {}).values()], dtype=np.int64)
        digits = np.where(read >= ord("a"), read - (ord("a") - 10), read - ord("0")).astype(np.uint8)
        return Cells(np.repeat(np.arange(len(names)), sizes), digits, rows)

    def samples(self, group: str | None = None) -> int:
        """Rows judged, of all groups or of one."""
        names = self.groups if group is None else [group]
        return sum(sum(self.cells.get(name, {}).values()) + self.fixed_drops.get(name, 0) for name in names)

    def kept_by_group(self, settings: Mapping[str, int] | None = None) -> dict[str, int]:
        """Return the rows that each group keeps at these stops; rules that are not named stay where they are.

        Raises:
            ValueError: A rule or a stop is not in the cube.
        """
        cells = self.arrays
        at = np.array([self._index(rule, settings or {}) for rule in self.rules], dtype=np.uint8)
        good = (cells.digits > at).all(axis=1)
        kept = np.bincount(cells.group[good], weights=cells.rows[good], minlength=len(self.groups))
        return {name: int(count) for name, count in zip(self.groups, kept, strict=True)}

    def kept(self, settings: Mapping[str, int] | None = None, group: str | None = None) -> int:
        """Return the rows that are kept at these stops, of all groups or of one."""
        found = self.kept_by_group(settings)
        return sum(found.values()) if group is None else found.get(group, 0)

    def _index(self, rule: str, settings: Mapping[str, int]) -> int:
        for name, index in settings.items():
            if name not in self.stops or not 0 <= index < len(self.stops[name]):
                raise ValueError(f"no stop {index} of rule {name!r}; there are {self.stops.get(name, ())}")
        return settings.get(rule, self.current[rule])

    def stop(self, rule: str, threshold: float) -> int | None:
        """Return which stop a threshold is, None where it is none; compared as rules compare, in 32 bits."""
        found = np.flatnonzero(np.asarray(self.stops.get(rule, ()), dtype=np.float32) == np.float32(threshold))
        return int(found[0]) if len(found) else None

    def regrouped(self, name: str) -> "Cube":
        """Return the cube with all groups as one, such as the languages of a source."""
        one = self.arrays._replace(group=np.zeros_like(self.arrays.group))
        cells, _ = pooled(one, 1)
        fixed = sum(self.fixed_drops.values())
        return Cube(
            stops=self.stops,
            current=self.current,
            cells=named([name], cells),
            fixed_drops={name: fixed} if fixed else {},
            declared=self.declared,
        )

    def __add__(self, other: "Cube") -> "Cube":
        """Merge two cubes over disjoint rows; order does not matter.

        Raises:
            ValueError: The cubes are of other rules or thresholds.
        """
        return total((self, other))

    @property
    def counted(self) -> Counted:
        """What the cube was made of."""
        fixed = np.array([self.fixed_drops.get(name, 0) for name in self.groups], dtype=np.int64)
        return Counted(self.declared, self.thresholds, self.stops, self.groups, self.arrays, fixed)


def total(cubes: Iterable[Cube]) -> Cube:
    """Return the sum of cubes over disjoint rows; a few are held at a time.

    Raises:
        ValueError: The cubes are of other rules or thresholds.
    """
    return cube_of(summed((cube.counted for cube in cubes), CELLS))


def cube_of(counted: Counted) -> Cube:
    """Return counts as a cube, named for people; there are no more cells than a cube may have."""
    found = fitted(counted, CELLS)
    return Cube(
        stops=dict(found.stops),
        current={rule: found.stops[rule].index(found.thresholds[rule]) for rule in sorted(found.stops)},
        cells=named(found.names, found.cells),
        fixed_drops={name: int(count) for name, count in zip(found.names, found.fixed, strict=True) if count},
        declared=dict(found.declared),
    )
