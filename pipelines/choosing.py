"""From what a user has on disk to the rows that are measured: which benchmarks, on which data, in which way."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from infra.settings import settings
from pipelines.wanted import Wanted
from stages.evaluations.base import Examples, HasTraining
from stages.evaluations.choice import TRAINS, Choice, Named, named_rows
from stages.evaluations.costs import Sizes
from stages.evaluations.data import find_place, open_examples, what_to_fetch
from stages.evaluations.protocols import PROTOCOLS, measurable, settings_of
from stages.evaluations.registry import Benchmark, ProtocolName, Row, benchmark, benchmarks, load_own
from stages.evaluations.subject import Kind
from stages.manifest import ManifestError

Told = Callable[[float, float, str], None]
Usual = Mapping[ProtocolName, Mapping[str, Any]]
NOTHING: Usual = MappingProxyType({})
KINDS: tuple[Kind, ...] = ("contrastive", "generative", "instruct")


def silent(done: float, total: float, unit: str) -> None:
    """Tell nobody."""


def _asked(wanted: Wanted) -> tuple[list[Benchmark], frozenset[str]]:
    """Return the benchmarks that are asked for, and the names of the user's own."""
    own = {spec.name: spec for spec in map(load_own, wanted.own)}
    if taken := sorted(set(own) & set(benchmarks())):
        raise ManifestError(f"--own describes {taken[0]}, which is a benchmark of the paper; give it another name")
    known = {**benchmarks(), **own}
    if lost := sorted(set(wanted.at) - set(known)):
        benchmark(lost[0])  # says what is near
    specs = [known.get(name) or benchmark(name) for name in dict.fromkeys(wanted.names)]
    return specs or list(known.values()), frozenset(own)


class Chosen(NamedTuple):
    """What is measured."""

    rows: dict[str, Choice]
    left_out: dict[str, str]
    """Rows of data that are there which cannot be measured, and why."""
    sizes: dict[str, Sizes]
    """How much data each row is about."""


def choices(kind: Kind, wanted: Wanted, told: Told = silent, usual: Usual = NOTHING) -> Chosen:
    """Return the rows that a checkpoint of this kind is measured on, each with the digest of its data.

    Args:
        kind: What the checkpoint is.
        wanted: What is asked for.
        told: Hears how far the reading of data is.
        usual: A recipe's settings by protocol. They go before those of a published benchmark, and behind those that
            a user wrote into a description.

    Raises:
        ManifestError: A benchmark that was named has no data or cannot be measured on this kind, or a setting
            belongs to no row.
    """
    specs, own = _asked(wanted)
    asked = [protocol for protocol, changes in wanted.changes.items() if changes.get("queries")]
    if asked and kind != "generative":
        raise ManifestError(
            f"--set {asked[0]}.queries=true is InternVL-G's way of seeing, and this checkpoint is {kind}; leave "
            "it out, or name checkpoints/generative"
        )
    found, left_out, sizes = dict[str, Choice](), dict[str, str](), dict[str, Sizes]()
    for spec in specs:
        place = find_place(spec, wanted.data, wanted.at)
        named = list(named_rows(spec))
        fitting = [each for each in named if not measurable(each.row, kind)]
        insisted = spec.name in wanted.names or spec.name in wanted.at
        if place is None:
            if insisted or spec.name in own:
                raise ManifestError(f"the data of {spec.name} are not there: {what_to_fetch(spec)}")
        elif fitting:
            how = How(place, spec.name in own, wanted, usual, told)
            found |= _chosen(fitting, how, left_out, sizes)
        elif insisted:
            why = sorted({measurable(each.row, kind) for each in named})
            raise ManifestError(f"{spec.name} cannot be measured on this checkpoint: it {' or '.join(why)}")
        elif spec.name in own:
            left_out |= {each.name: measurable(each.row, kind) for each in named}
    used = {choice.protocol for choice in found.values()}
    if found and (unused := sorted(set(wanted.changes) - used)):
        raise ManifestError(f"--set {unused[0]}.* changes nothing: no row of {', '.join(found)} is measured by it")
    return Chosen(found, left_out, {name: sizes[name] for name in found})


class How(NamedTuple):
    """What all rows of one benchmark are chosen by."""

    place: Path
    own: bool
    """Whether the benchmark is the user's."""
    wanted: Wanted
    usual: Usual
    told: Told

    def given(self, row: Row) -> dict[str, Any]:
        """Return the settings that somebody decided, the last word being the command line's."""
        usual, described = self.usual.get(row.protocol, {}), row.settings
        decided = {**usual, **described} if self.own else {**described, **usual}
        return decided | self.wanted.changes.get(row.protocol, {})


def _chosen(rows: Sequence[Named], how: How, left_out: dict[str, str], sizes: dict[str, Sizes]) -> dict[str, Choice]:
    found, opened = {}, dict[str, Examples]()
    for name, spec, row in rows:
        if row.language not in opened:
            cache = settings().home / "hashes"
            opened[row.language] = open_examples(
                spec, how.place, limit=how.wanted.limit, language=row.language, cache=cache, progress=how.told
            )
        examples = opened[row.language]
        try:
            taught = examples.training() if row.protocol in TRAINS and isinstance(examples, HasTraining) else None
        except ManifestError as error:
            left_out[name] = str(error)
            continue
        sizes[name] = Sizes(len(examples), len(taught) if taught else 0, max(2, len(examples.classes)))
        found[name] = Choice(
            benchmark=spec.name,
            own=spec if how.own else None,
            protocol=row.protocol,
            language=row.language,
            settings=settings_of(PROTOCOLS[row.protocol], how.given(row)).model_dump(mode="json"),
            place=str(how.place),
            limit=how.wanted.limit,
            data=examples.digest,
            training=taught.digest if taught else None,
        )
    return _once(rows, found, left_out)


def _once(rows: Sequence[Named], found: Mapping[str, Choice], left_out: dict[str, str]) -> dict[str, Choice]:
    """Return the rows without those that changed settings made like another one, which then tells the number."""
    unchanged = {
        each.name
        for each in rows
        if each.name in found
        and settings_of(PROTOCOLS[each.row.protocol], each.row.settings).model_dump(mode="json")
        == found[each.name].settings
    }
    kept = {name: choice for name, choice in found.items() if name in unchanged}
    for name, choice in found.items():
        twin = next((other for other, known in kept.items() if known == choice and other != name), None)
        if twin is not None and name not in unchanged:
            left_out[name] = f"with these settings it is the same measurement as {twin}"
        else:
            kept[name] = choice
    return {name: choice for name, choice in found.items() if name in kept}


def nothing_found(kind: Kind, wanted: Wanted) -> ManifestError:
    """Return the error about a folder without benchmarks: what there is, and what to fetch."""
    able = [spec for spec in benchmarks().values() if any(not measurable(row, kind) for row in spec.rows)]
    names = ", ".join(spec.name for spec in able) or "none of the registry"
    where = f"{wanted.data} holds no benchmark's data" if wanted.data else "no data were given"
    example = f"; for example {able[0].name}: {what_to_fetch(able[0])}" if able else ""
    return ManifestError(
        f"{where}. This checkpoint can be measured on {names}{example}. `internvl benchmarks NAME` tells of each; "
        "your own data: --own SPEC.yaml"
    )
