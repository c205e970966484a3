"""Measure a checkpoint on benchmarks: a part for each, so that they spread over GPUs and a stopped run goes on.

What is measured is resolved before the stage runs (`pipelines/measuring.py`): each row carries the digest of its
data, so data that changed are another result, which has to be asked for.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.settings import settings
from infra.storage import Store
from stages.evaluations.choice import Choice
from stages.evaluations.leaks import Leak, leaks
from stages.evaluations.page import results_page
from stages.evaluations.protocols import PROTOCOLS, Known, function_of, settings_of
from stages.evaluations.registry import Benchmark, ProtocolName
from stages.evaluations.results import (
    Result,
    publish,
    read_confusion,
    read_result,
    read_shown,
    read_written,
)
from stages.evaluations.row_views import Measured
from stages.evaluations.subject import StoredSubject, kind_of
from stages.evaluations.views import Board, board_of
from stages.evaluations.wording import markdown
from stages.manifest import Manifest, Part
from stages.workspace import Output, Progress, Workspace

VERSION = 4
GROWS = "rows"
"""An evaluation that stands is added to: rows keep their parts, and one page tells all."""


class Parameters(BaseModel):
    """Which benchmarks are measured, on which data, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: dict[str, Choice] = Field(
        min_length=1, description="What is measured, by name; `internvl evaluate` fills it in."
    )
    batch_size: int = Field(default=192, ge=1, description="Pictures or texts in the model at once.")

    @model_validator(mode="after")
    def _described_once(self) -> "Parameters":
        known: dict[str, Benchmark | None] = {}
        for choice in self.rows.values():
            if known.setdefault(choice.benchmark, choice.own) != choice.own:
                raise ValueError(
                    f"{choice.benchmark} is described in two ways, of which a page can tell one; measure what is "
                    "described anew under a name of its own: --new-version NAME"
                )
        return self


@dataclass(frozen=True)
class Work:
    """What a worker needs to measure any row."""

    output: Output
    checkpoint: Manifest
    parameters: Parameters
    protocols: dict[ProtocolName, Known]


_LOADED: dict[tuple[str, str, int], StoredSubject] = {}
"""The one checkpoint that this process has in memory."""


def _subject(work: Work) -> StoredSubject:
    key = work.output.store.root, work.checkpoint.digest, work.parameters.batch_size
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = StoredSubject(work.output.store, work.checkpoint, work.parameters.batch_size)
    return _LOADED[key]


def measure_row(name: str, work: Work) -> Part:
    """Measure one row and publish it; measuring it twice gives the same bytes.

    Raises:
        ManifestError: The data are gone or others, or lack what the protocol needs.
    """
    if not torch.cuda.is_available():
        # Sums over one thread come in one order; on shared cores two threads are slower besides.
        torch.set_num_threads(1)
    choice, progress = work.parameters.rows[name], Progress(work.output.store, work.output.ref, work.output.fence)
    examples = choice.open(settings().home / "hashes")
    subject = _subject(work)
    subject.progress = lambda done, total, unit: progress(done, total, unit, name)
    known = work.protocols[choice.protocol]
    outcome = function_of(known)(subject, examples, settings_of(known, choice.settings), choice.benchmark)
    count = len(examples) + len(examples.unreadable)
    return publish(work.output, name, choice, outcome, count, examples.unreadable, examples.notes)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Measure all rows that were not measured yet, and write the page of all.

    Raises:
        ManifestError: The checkpoint is none that benchmarks are about, or a row cannot be measured.
    """
    checkpoint = here.input("checkpoints")
    kind_of(checkpoint)
    work = Work(output, checkpoint, parameters, dict(PROTOCOLS))
    stood = list(here.earlier.parts) if here.earlier else []
    there = {part.key for part in stood}
    items = [(name, choice.data, name) for name, choice in sorted(parameters.rows.items()) if name not in there]
    parts = stood + here.map_parts(output, partial(measure_row, work=work), items, unit="benchmarks")
    # Parts are read back through a manifest that nobody has committed yet.
    draft = Manifest(
        ref=output.ref, stage=output.stage, identity=output.identity,
        ledger=sum((part.ledger for part in parts[1:]), parts[0].ledger), parts=tuple(parts),
    )  # fmt: skip
    board, measured = read_board(here.store, checkpoint, draft)
    page = results_page(
        title=str(checkpoint.ref),
        model=StoredSubject(here.store, checkpoint, parameters.batch_size).model,
        board=board,
        measured=measured,
        provenance={
            "benchmarks": str(output.ref),
            "checkpoint": f"{checkpoint.ref} {checkpoint.digest}",
            **{f"data of {name}": choice.data for name, choice in sorted(parameters.rows.items())},
        },
    )
    totals: dict[str, Any] = {
        f"{each.result.name}.{first.name}": round(first.value, 4)
        for each in measured
        for first in each.result.measures[:1]
    }
    totals |= {"leaked": sum(each.trained > 0 for each in board.leaks), "markdown": markdown(board)}
    reports = {"page": ("benchmarks.html", page.encode())}
    return output.commit(parts, totals=totals, reports=reports, replaces=here.earlier)


def read_board(store: Store, checkpoint: Manifest, made: Manifest) -> tuple[Board, list[Measured]]:
    """Return the table of an evaluation and its rows in detail, in the order of the table."""
    choices = {name: Choice.model_validate(each) for name, each in made.identity["parameters"]["rows"].items()}
    parts = {part.key: part for part in made.parts}
    results: dict[str, Result] = {name: read_result(store, made, part) for name, part in parts.items()}
    own = {choice.benchmark: choice.own for _, choice in sorted(choices.items()) if choice.own}
    known: list[Leak] = leaks(store, checkpoint, choices)
    board = board_of(kind_of(checkpoint), results, list(own.values()), known)
    order = dict.fromkeys(line.name for line in board.lines if not line.why)
    measured = [
        Measured(
            result=results[name],
            place=choices[name].place,
            settings=choices[name].settings,
            confusion=read_confusion(store, made, parts[name], len(results[name].classes)),
            shown=read_shown(store, made, parts[name]),
            written=read_written(store, made, parts[name]),
        )
        for name in order
    ]
    return board, measured
