"""The live pages: each a function of one look at the store, the jobs that run and what the address asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infra.storage import Store
from pipelines.live.cells import SIGNS, Cell, State, counts_of, gathered
from pipelines.live.drawing import drawn
from pipelines.live.facts import lines_of, words
from pipelines.live.lineage import Graph, in_order, lineage
from pipelines.live.next_moves import heard_of, next_move, words_of
from pipelines.live.shelf import PART_UNITS, Begun, Finished, View
from pipelines.live.shell import QUICK, SLOW, bar, page
from pipelines.live.states import Doing
from stages.catalogue import checkpoints as catalogue
from stages.manifest import Manifest
from stages.materialize import STAGES
from stages.pace import duration
from stages.ref import Ref

MOST_DRAWN = 250
"""More artifacts than that are told in the table alone."""
MOST_NUMBERS = 10
"""Numbers of a checkpoint that the catalogue shows; its own page has all."""
MOST_LISTED = 500
"""Finished artifacts that the overview lists, the newest."""
ALL = "all"

Query = Mapping[str, str]


@dataclass(frozen=True)
class Look:
    """What a page is drawn from."""

    view: View
    doing: Mapping[Ref, Doing]
    """What becomes of each artifact that does not stand."""
    asked: bool
    """Whether the cluster told which jobs run."""
    now: float

    @property
    def busy(self) -> bool:
        """Whether something runs."""
        return any(each in (Doing.RUNNING, Doing.WAITING) for each in self.doing.values())


def overview(look: Look, query: Query) -> bytes:
    """Return what runs, what did not finish and why, and what is finished."""
    rows = [_row(each, look) for each in look.view.begun]
    running = [row for row in rows if row["doing"] in (Doing.RUNNING, Doing.WAITING)]
    ended = sorted((row for row in rows if row not in running), key=lambda row: row["doing"] != Doing.FAILED)
    counts = {state: sum(each is state for each in look.doing.values()) for state in Doing}
    tiles = [(count, state.value) for state, count in counts.items()]
    finished = sorted(look.view.finished, key=lambda each: (-each.ended, str(each.ref)))
    return page(
        "overview", "What is going on",
        tiles=[*tiles, (len(finished), "finished")], asked=look.asked, running=running, ended=ended,
        finished=finished[:MOST_LISTED], more=max(0, len(finished) - MOST_LISTED),
        unreadable=look.view.unreadable, **_frame("/", look, query),
    )  # fmt: skip


def _row(begun: Begun, look: Look) -> dict[str, object]:
    doing = look.doing[begun.ref]
    words = words_of(begun, doing, look.now)
    return {
        "ref": begun.ref,
        "stage": begun.stage,
        "doing": doing,
        "bar": bar(begun.pace.share if begun.pace else 0.0, words),
        "words": words,
        "heard": heard_of(begun, look.now),
        "message": begun.failure.message if doing is Doing.FAILED and begun.failure else "",
        "next": next_move(begun, doing, look.now),
    }


def lineage_page(look: Look, query: Query) -> bytes:
    """Return what was made from what: of a version, around one artifact (`of`), or all."""
    whole = lineage(look.view, look.doing)
    versions = whole.versions()
    of, version = query.get("of", ""), query.get("version", "")
    graph, lead = whole, "All versions."
    if of in whole.nodes:
        version = whole.nodes[of].version
        graph, lead = whole.around(of), f"{of}, with all that it rests on and all that rests on it."
    elif version != ALL and versions:
        version = version if version in versions else versions[0]
        graph, lead = whole.of_version(version), f"Version {version}, with all that it rests on."
    marked = sum(bool(node.why) for node in graph.nodes.values())
    if of and of not in whole.nodes:
        lead = f"{of} is not in this store. {lead}"
    lead += f" {len(graph.nodes):,} artifacts, {marked} of them marked."
    small = 0 < len(graph.nodes) <= MOST_DRAWN
    shown = "" if of in whole.nodes else version
    return page(
        "lineage", "Lineage",
        lead=lead, chips=_chips("/lineage", versions, shown), rows=_told(graph),
        drawing=drawn(graph, "" if version == ALL else version) if small else "",
        too_many=f"{len(graph.nodes):,} artifacts are too many for a drawing; choose a version, or follow the link "
        "of one artifact's page." if graph.nodes else "",
        **_frame("/lineage", look, query),
    )  # fmt: skip


def _told(graph: Graph) -> list[tuple[object, tuple[str, ...]]]:
    return [(graph.nodes[key], graph.inputs.get(key, ())) for key in in_order(graph)]


def grid(look: Look, query: Query) -> bytes:
    """Return every part of every artifact of a version, by kind and source."""
    refs: dict[Ref, Finished | Begun] = {each.ref: each for each in look.view.finished}
    refs |= {begun.ref: begun for begun in look.view.begun}
    latest = {each.ref.version: each.ended for each in sorted(look.view.finished, key=lambda each: each.ended)}
    for begun in look.view.begun:
        latest[begun.ref.version] = max(latest.get(begun.ref.version, 0.0), begun.pace.at if begun.pace else 0.0)
    versions = sorted(latest, key=lambda version: (-latest[version], version))
    version = query.get("version", "")
    if version != ALL and version not in versions:
        version = versions[0] if versions else ALL
    blocks: dict[str, list[dict[str, object]]] = {}
    cells: list[Cell] = []
    for ref, each in sorted(refs.items(), key=lambda item: (_place(item[1].stage), str(item[0]))):
        if version in (ALL, ref.version):
            own = each.cells if isinstance(each, Finished) else begun_cells(each, look.doing[ref])
            kind, _, name = ref.name.rpartition("/")
            label = name if version != ALL else f"{name}@{ref.version}"
            cells += own
            if own:
                blocks.setdefault(kind or name, []).append(_parts(label, each, own, look))
    counts = counts_of(cells)
    return page(
        "grid", "Parts",
        lead=f"Version {version}: {sum(counts.values()):,} parts." if version != ALL else "All versions.",
        chips=_chips("/grid", versions, version), blocks=list(blocks.items()), signs=SIGNS,
        totals=[(state, SIGNS[state], counts.get(state, 0)) for state in reversed(State)],
        **_frame("/grid", look, query),
    )  # fmt: skip


def _place(stage: str) -> int:
    """Return a stage's place in the order of the work; those that no recipe has come last."""
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def begun_cells(begun: Begun, doing: Doing) -> tuple[Cell, ...]:
    """Return the parts of an artifact that is being made: those that stand, and how many are to come.

    Which of those a machine holds now is not written down: while the stage runs all count as running, else as
    missing. Progress in another unit than parts (steps, buckets) tells nothing about parts.
    """
    parts = [(key, State.DONE, 0, 0) for key in begun.made] or [("made", State.DONE, 0, 0)] * begun.made_parts
    if begun.pace is not None and begun.pace.unit in PART_UNITS:
        state = State.RUNNING if doing in (Doing.RUNNING, Doing.WAITING) else State.MISSING
        parts += [("to come", state, 0, 0)] * max(0, round(begun.pace.total) - len(parts))
    return gathered(parts)


def _parts(label: str, each: Finished | Begun, cells: tuple[Cell, ...], look: Look) -> dict[str, object]:
    counts = counts_of(cells)
    said = [f"{counts.get(State.DONE, 0):,} of {sum(counts.values()):,} done"]
    said += [f"{count:,} {state}" for state, count in counts.items() if state is not State.DONE]
    if isinstance(each, Begun):
        said.append(f"stage {look.doing[each.ref]}")
    elif failed := each.ledger.failed:
        said.append(f"{failed:,} of {each.ledger.listed:,} rows failed")
    per = max((cell.parts for cell in cells), default=1)
    if per > 1:
        said.append(f"a cell is {per} parts and shows the worst of them")
    page_of = f"/{each.ref.folder}/" if isinstance(each, Finished) else ""
    return {"name": label, "page": page_of, "words": ", ".join(said), "cells": cells}


def checkpoints(look: Look, query: Query, store: Store) -> bytes:
    """Return the catalogue of checkpoints."""
    rows = []
    for each in catalogue(store):
        numbers = [(name, value) for name, value in each.metrics.items() if isinstance(value, int | float)]
        age = duration(each.age_seconds or 0.0)
        rows.append({**vars(each), "numbers": numbers[:MOST_NUMBERS], "age": age})
    return page("checkpoints", "Checkpoints", rows=rows, **_frame("/checkpoints", look, query))


def artifact(manifest: Manifest, pages: Mapping[str, str], events: Path | None) -> bytes:
    """Return what one artifact holds.

    Args:
        manifest: Of the artifact.
        pages: Key by what a page is.
        events: Folder with what TensorBoard reads, where there is one on this machine.
    """
    totals = [
        (words(name), lines_of(value))
        for name, value in manifest.totals.items()
        if name not in ("funnel", "cube", "markdown")
    ]
    inputs = [(name, str(digest)[:16]) for name, digest in manifest.identity.get("inputs", {}).items()]
    return page(
        "artifact", str(manifest.ref), ledger=manifest.ledger, parts=len(manifest.parts),
        digest=manifest.digest[:16], version=manifest.ref.version, pages=pages, totals=totals, inputs=inputs,
        tensorboard=f"tensorboard --host 127.0.0.1 --logdir {events}" if events else "",
    )  # fmt: skip


def message(title: str, *lines: str, command: str = "", doors: bool = True) -> bytes:
    """Return a page of a few sentences."""
    return page("message", title, lines=lines, command=command, drawn_at="", **({} if doors else {"doors": ()}))


def _chips(path: str, versions: list[str], now: str) -> list[tuple[str, str, bool]]:
    return [(each, f"{path}?version={quote(each)}", each == now) for each in [*versions[:20], ALL]]


def _frame(path: str, look: Look, query: Query) -> dict[str, object]:
    """Return how often a page draws itself anew, and where it does not."""
    if query.get("refresh") == "0":
        return {"here": path}
    kept = "&".join(f"{name}={quote(query[name])}" for name in ("of", "version") if name in query)
    still = f"{path}?{kept}{'&' if kept else ''}refresh=0"
    return {"here": path, "refresh": QUICK if look.busy else SLOW, "still": still}
