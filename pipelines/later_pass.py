"""A later pass of a download: the rows that may come back are asked for again, all others are carried over."""

import re
from collections.abc import Sequence

from infra.storage import Store
from pipelines.graph import Step, everything_after, with_version
from pipelines.names import RetryName
from stages.errors import Missing
from stages.manifest import Manifest, find
from stages.outcome import TRANSIENT, Outcome
from stages.ref import Ref

_NUMBERED = re.compile(r"(.+)-([1-9][0-9]*)")


def retried(names: Sequence[str]) -> list[str]:
    """Return the outcomes that a later pass asks for again, sorted.

    Raises:
        ValueError: One of them is final, or no outcome at all; the message lists what there is.
    """
    known = [str(name) for name in RetryName]
    wanted = set[str]()
    for name in names:
        if name not in known:
            final = "is final and never asked for again" if name in {str(o) for o in Outcome} else "is no outcome"
            raise ValueError(f"{name!r} {final}; --retry takes {', '.join(known)}")
        wanted |= {str(outcome) for outcome in TRANSIENT} if name == RetryName.TRANSIENT else {name}
    return sorted(wanted)


def chain_of(store: Store, artifact: str, version: str) -> str:
    """Return the version that a chain of passes began with: `tiny` for `tiny-3`, where `tiny` stands."""
    found = _NUMBERED.fullmatch(version)
    begun = found is not None and find(store, Ref(name=artifact, version=found[1])) is not None
    return found[1] if found is not None and begun else version


def number_of(base: str, version: str) -> int:
    """Return which pass of a chain a version is: 1 for the first, 0 where it is none of them."""
    found = _NUMBERED.fullmatch(version)
    return 1 if version == base else int(found[2]) if found is not None and found[1] == base else 0


def next_version(store: Store, artifacts: Sequence[str], base: str, first: int, wanted: Sequence[str]) -> str:
    """Return the first of `base-2`, `base-3`, ... that is not finished for all of these artifacts.

    A pass that was stopped is thus gone on with, and a finished one is followed by the next. An artifact that
    has nothing to ask for is left out of a pass, so it keeps no pass from being finished.
    """
    number = first
    while True:
        missing = [name for name in artifacts if not find(store, Ref(name=name, version=f"{base}-{number}"))]
        if len(missing) == len(artifacts) or any(
            rows_to_ask(earlier_of(store, name, base, number), wanted) for name in missing
        ):
            return f"{base}-{number}"
        number += 1


def rows_to_ask(earlier: Manifest, wanted: Sequence[str]) -> int:
    """Return how many rows of a finished pass ended in one of these outcomes."""
    return sum(earlier.totals.get("outcomes", {}).get(outcome, 0) for outcome in wanted)


def earlier_of(store: Store, artifact: str, base: str, before: int) -> Manifest:
    """Return the newest finished pass of an artifact before a number.

    Raises:
        Missing: There is none.
    """
    for number in range(before - 1, 0, -1):
        version = base if number == 1 else f"{base}-{number}"
        if manifest := find(store, Ref(name=artifact, version=version)):
            return manifest
    raise Missing(f"{artifact}@{base} is not finished, so there is nothing to ask for again", artifact, base)


def later_pass(
    steps: Sequence[Step],
    downloads: Sequence[Step],
    retry: Sequence[str],
    store: Store,
    version: str,
    new_version: str = "",
    and_everything_after: bool = False,
) -> list[Step]:
    """Return the steps of a later pass under a version of its own, beside the earlier ones.

    Args:
        steps: All steps of the recipe, under the version that the first pass was made with.
        downloads: The downloads to pass over again.
        retry: Outcomes, or `transient` for all that may come back.
        store: Where earlier passes stand.
        version: A first pass, or one of the passes over it; the newest finished one is started from.
        new_version: Name of the result; the next of `version-2`, `version-3`, ... when left empty.
        and_everything_after: Whether what depends on the new pools is made too.

    Raises:
        Missing: A download is not finished.
        ValueError: None has a row that could be asked for again.
    """
    wanted = retried(retry)
    names = [step.artifact for step in downloads]
    base = chain_of(store, names[0], version)
    name = new_version or next_version(store, names, base, number_of(base, version) + 1, wanted)
    earlier: dict[str, Manifest] = {}
    for artifact in names:
        # A pass of the chain comes after those of lower number, one with a name of its own after all of them.
        newest = max((number_of(base, each) for each in store.folders(artifact)), default=0)
        found = earlier_of(store, artifact, base, number_of(base, name) or newest + 1)
        if rows_to_ask(found, wanted):
            earlier[artifact] = found
    if not earlier:
        raise ValueError(
            f"no row of {', '.join(f'{n}@{version}' for n in names)} ended as {', '.join(wanted)}: "
            "there is nothing to ask for again"
        )
    chosen = [step for step in downloads if step.artifact in earlier]
    if and_everything_after:
        chosen = everything_after(steps, chosen)
    return [_again(step, earlier.get(step.artifact), wanted) for step in with_version(steps, chosen, name)]


def _again(step: Step, earlier: Manifest | None, retry: Sequence[str]) -> Step:
    """Return a download as a pass over an earlier one; other steps as they are."""
    if earlier is None:
        return step
    parameters = {**step.spec.parameters, "retry": list(retry)}
    inputs = (*step.spec.inputs, earlier.ref)
    return step.changed(parameters=parameters, inputs=inputs)
