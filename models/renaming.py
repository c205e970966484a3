"""Weights under other names and in other pieces, each computed only when it is asked for.

A conversion is decided from names alone and then read tensor by tensor, so that a model of any size
passes through a machine that could never hold it. Conversions of conversions cost nothing more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]


class WeightsError(ValueError):
    """Weights that do not belong to a model; the message names every one of them."""


@dataclass(frozen=True)
class Origin:
    """What a weight is made of: the names it is read from, and what is done with them."""

    names: tuple[str, ...]
    make: Callable[..., Tensor]


def passing(name: str) -> bool:
    """Say whether a name is a buffer that old versions of LLaMA left in their files; nobody needs it."""
    return name.endswith("rotary_emb.inv_freq")


def same(name: str) -> Origin:
    """Return a weight as it stands under another name."""
    return Origin((name,), lambda value: value)


def rows(name: str, number: int, pieces: int) -> Origin:
    """Return one of several equal blocks of rows of a weight."""
    # A copy, as a view would keep the whole weight alive.
    return Origin((name,), lambda value: value.chunk(pieces, dim=0)[number].clone())


def stacked(names: Sequence[str]) -> Origin:
    """Return the rows of several weights, one block after the other."""
    return Origin(tuple(names), lambda *values: torch.cat(values))


class Renamed(Mapping[str, Tensor]):
    """Weights made of other weights; nothing is read before a weight is asked for."""

    def __init__(self, weights: State, origins: Mapping[str, Origin]) -> None:
        """Keep what each weight is made of."""
        self._weights, self._origins = weights, dict(origins)

    @classmethod
    def whole(cls, weights: State, origins: Mapping[str, Origin], what: str) -> "Renamed":
        """Return weights that need all of the given ones and no other.

        Raises:
            WeightsError: A weight is missing, or has no place; all of them are named.
        """
        needed = {name for origin in origins.values() for name in origin.names}
        problems = [f"weight {name!r} is missing" for name in sorted(needed) if name not in weights]
        problems += [f"weight {name!r} is not known" for name in weights if name not in needed and not passing(name)]
        refuse(problems, what)
        return cls(weights, origins)

    def __getitem__(self, name: str) -> Tensor:
        """Read and make one weight.

        Raises:
            WeightsError: What it is made of has another shape.
        """
        origin = self._origins[name]
        values = [self._weights[each] for each in origin.names]
        try:
            return origin.make(*values)
        except (RuntimeError, IndexError) as error:
            given = ", ".join(
                f"{each!r} of shape {tuple(value.shape)}" for each, value in zip(origin.names, values, strict=True)
            )
            raise WeightsError(f"weight {given} cannot become {name!r}") from error

    def __contains__(self, name: object) -> bool:
        """Look a name up; a mapping's own way would read the weight."""
        return name in self._origins

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._origins)

    def __len__(self) -> int:
        """Count the weights."""
        return len(self._origins)


def below(weights: State, prefix: str) -> Renamed:
    """Return the weights whose names begin with a prefix, without it."""
    return Renamed(weights, {name.removeprefix(prefix): same(name) for name in weights if name.startswith(prefix)})


def joined(*parts: State) -> Renamed:
    """Return the weights of several parts together."""
    return Renamed({}, {name: Origin((), partial(part.__getitem__, name)) for part in parts for name in part})


def above(weights: State, prefix: str) -> Renamed:
    """Return weights with a prefix in front of every name."""
    return Renamed(weights, {prefix + name: same(name) for name in weights})


def shapes(weights: State) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight."""
    return {name: tuple(value.shape) for name, value in weights.items()}


def differences(
    expected: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]], optional: Iterable[str] = ()
) -> list[str]:
    """Return one phrase for every weight that is missing, not known, or of another shape."""
    allowed = set(optional)
    missing = [f"weight {name!r} is missing" for name in expected if name not in found and name not in allowed]
    extra = [f"weight {name!r} is not known" for name in found if name not in expected]
    wrong = [
        f"weight {name!r} has shape {tuple(found[name])} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    return missing + extra + wrong


def refuse(problems: Sequence[str], what: str) -> None:
    """Raise one error for all problems, if there are any.

    Raises:
        WeightsError: There are.
    """
    if problems:
        raise WeightsError(f"these are not the weights of {what}: {'; '.join(problems)}")


def fill(model: nn.Module, weights: State, what: str, optional: Iterable[str] = ()) -> None:
    """Copy weights into a model one by one; nothing is copied unless all of them fit.

    Args:
        model: Not on the meta device.
        weights: Under the names of the model; read twice, first for their shapes.
        what: How the model is called in the error.
        optional: Weights that keep their values where none are given.

    Raises:
        WeightsError: A weight is missing, unknown, of another shape, or holds no real numbers; all are named.
    """
    mine = model.state_dict()
    found: dict[str, tuple[int, ...]] = {}
    problems = []
    for name in weights:
        try:
            value = weights[name]
        except WeightsError as error:
            problems.append(str(error))
            found[name] = tuple(mine[name].shape) if name in mine else ()  # said already: not to be said twice
            continue
        found[name] = tuple(value.shape)
        if not value.is_floating_point():
            problems.append(f"weight {name!r} holds {str(value.dtype).removeprefix('torch.')}, not real numbers")
    refuse(differences(shapes(mine), found, optional) + problems, what)
    with torch.no_grad():
        for name in weights:
            mine[name].copy_(weights[name])
