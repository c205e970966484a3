"""What was made from what: a graph drawn from manifests alone, with what is stale, missing or still being made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from pipelines.live.shelf import Finished, View
from pipelines.live.states import Doing
from stages.ref import Ref


class Standing(StrEnum):
    """How it stands with an artifact; all but the first are marked in the drawing."""

    WHOLE = "whole"
    STALE = "stale"
    """An input was made anew since: what stands now would give another result."""
    RESTS = "rests on stale"
    """Its inputs stand as they were, but one of them, or one of theirs, is stale."""
    MISSING = "missing"
    """Nothing of this name stands any more; it is known by what was made from it."""
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Node:
    """One artifact."""

    key: str
    """`name@version`; for one that is gone, its name and the beginning of its digest."""
    name: str
    version: str
    standing: Standing
    page: str = ""
    """Where its page is; empty where it has none."""
    why: str = ""
    """A sentence about a standing that is marked."""
    rows: int | None = None
    ended: float = 0.0


@dataclass(frozen=True)
class Graph:
    """Artifacts by key, and for each what it was made from."""

    nodes: dict[str, Node]
    inputs: dict[str, tuple[str, ...]]

    def around(self, key: str) -> "Graph":
        """Return one artifact with all it rests on and all that rests on it."""
        after: dict[str, list[str]] = {}
        for made, sources in self.inputs.items():
            for source in sources:
                after.setdefault(source, []).append(made)
        return self.only({*_reached([key], self.inputs), *_reached([key], after)})

    def of_version(self, version: str) -> "Graph":
        """Return a version's artifacts with all they rest on, of whatever version."""
        own = [key for key, node in self.nodes.items() if node.version == version]
        return self.only(_reached(own, self.inputs))

    def only(self, keys: Iterable[str]) -> "Graph":
        """Return the graph of some artifacts."""
        kept = {key for key in keys if key in self.nodes}
        return Graph(
            {key: node for key, node in self.nodes.items() if key in kept},
            {
                key: tuple(each for each in self.inputs.get(key, ()) if each in kept)
                for key in self.nodes
                if key in kept
            },
        )

    def versions(self) -> list[str]:
        """Return the versions, that of the newest artifact first."""
        newest: dict[str, float] = {}
        for node in self.nodes.values():
            if node.version:
                newest[node.version] = max(newest.get(node.version, 0.0), node.ended)
        return sorted(newest, key=lambda version: (-newest[version], version))


def lineage(view: View, doing: Mapping[Ref, Doing]) -> Graph:
    """Return the graph of all that stands and of all that is being made.

    A manifest names its inputs by name and digest: the standing version with this digest is what it was made from.
    """
    by_digest = {(each.ref.name, each.digest): str(each.ref) for each in view.finished}
    names = {each.ref.name for each in view.finished}
    nodes, inputs = dict[str, Node](), dict[str, tuple[str, ...]]()
    for each in view.finished:
        found, lost = [], []
        for name, digest in each.inputs.items():
            key = by_digest.get((name, digest))
            if key is None:
                if name in names:
                    lost.append(name)
                key = f"{name} {digest[:12]}"
                nodes[key] = _gone(key, name, digest, again=name in names)
            found.append(key)
        inputs[str(each.ref)] = tuple(found)
        nodes[str(each.ref)] = _finished(each, lost)
    for begun in view.begun:
        nodes[str(begun.ref)] = Node(
            str(begun.ref), begun.ref.name, begun.ref.version, Standing(doing[begun.ref].value),
            why=f"{doing[begun.ref]}: not finished",
            ended=begun.pace.at if begun.pace else 0.0,
        )  # fmt: skip
        inputs[str(begun.ref)] = tuple(str(ref) for ref in begun.inputs)
    for key in {key for found in inputs.values() for key in found} - nodes.keys():
        name, _, version = key.partition("@")
        nodes[key] = Node(key, name, version, Standing.MISSING, why="not made yet")
    return _with_rests(Graph(nodes, inputs))


def _finished(each: Finished, lost: list[str]) -> Node:
    why = f"made from {', '.join(lost)} as it was before; run its stage again to follow" if lost else ""
    return Node(
        key=str(each.ref),
        name=each.ref.name,
        version=each.ref.version,
        standing=Standing.STALE if lost else Standing.WHOLE,
        page=f"/{each.ref.folder}/",
        why=why,
        rows=each.ledger.kept,
        ended=each.ended,
    )


def _gone(key: str, name: str, digest: str, again: bool) -> Node:
    why = f"{name} with digest {digest[:12]} was " + ("replaced since" if again else "removed")
    return Node(key, name, "", Standing.MISSING, why=why)


def _with_rests(graph: Graph) -> Graph:
    """Mark what rests on something stale."""
    nodes = dict(graph.nodes)
    for key in in_order(graph):
        uneasy = [source for source in graph.inputs.get(key, ()) if nodes[source].standing in _UNEASY]
        if uneasy and nodes[key].standing is Standing.WHOLE:
            why = f"its inputs stand, but {nodes[uneasy[0]].name} is stale or rests on what is"
            nodes[key] = replace(nodes[key], standing=Standing.RESTS, why=why)
    return Graph(nodes, graph.inputs)


_UNEASY = (Standing.STALE, Standing.RESTS)


def in_order(graph: Graph) -> list[str]:
    """Return keys so that each comes after what it was made from; a manifest's digest leaves no room for circles.

    A specification could ask for one all the same: its artifacts come last, in the order of their names.
    """
    left = {key: set(graph.inputs.get(key, ())) for key in sorted(graph.nodes)}
    ordered: list[str] = []
    while ready := [key for key, sources in left.items() if not sources]:
        ordered += ready
        for key in ready:
            del left[key]
        for sources in left.values():
            sources.difference_update(ready)
    return [*ordered, *left]


def _reached(begin: Iterable[str], steps: Mapping[str, Iterable[str]]) -> set[str]:
    found, todo = set[str](), list(begin)
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo += steps.get(key, ())
    return found
