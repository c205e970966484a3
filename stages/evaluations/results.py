"""One measured row as it lies in the store: numbers, scores of each example, confusions, pictures to look at."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image
from pydantic import BaseModel, ConfigDict

from infra.storage import Store
from stages.evaluation_metrics import Floats, Measure
from stages.evaluation_report import SHOWN_SIDE, Example
from stages.evaluations.base import Outcome
from stages.evaluations.choice import Choice
from stages.evaluations.departures import departures
from stages.evaluations.registry import ProtocolName
from stages.manifest import Ledger, Manifest, Part
from stages.workspace import Output, parquet_bytes, read_file, read_table

WRITTEN = 40
"""Most answers of one row that a page lists."""
SHOWN = 24
"""Most pictures of one row that a page shows."""
EXAMPLES = pa.schema(
    [
        ("group", pa.string()),
        ("jpg", pa.binary()),
        ("names", pa.list_(pa.string())),
        ("texts", pa.list_(pa.string())),
        ("right", pa.bool_()),
    ]
)
"""Pictures to look at, made small, with the lines beside them."""
CONFUSION = pa.schema([("right", pa.int32()), ("answer", pa.int32()), ("count", pa.int64())])
"""Only pairs that occur."""


class Result(BaseModel):
    """What is told of one row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    benchmark: str
    title: str
    protocol: ProtocolName
    language: str
    examples: int
    measures: tuple[Measure, ...]
    """The first one is the one that the paper reports."""
    ratios: dict[str, tuple[tuple[str, str], ...]] = {}
    """Measures that are means of ratios of sums over examples, and of which columns of the scores."""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = {}
    departures: tuple[str, ...] = ()
    """Where it was not measured as the paper did, so that no difference to the paper's number is told."""
    unreadable: dict[str, str] = {}
    """Key of each example that could not be shown to the model, and why."""

    def measure(self, name: str) -> Measure | None:
        """Return a measure by name, the whole one before those of a language or a part."""
        found = [each for each in self.measures if each.name == name]
        return found[0] if found else None


class Written(NamedTuple):
    """What a model wrote about a row's examples."""

    file: str = ""
    """Key of the file that holds all of it, one JSON object a line."""
    lines: int = 0
    first: Sequence[Mapping[str, Any]] = ()
    """Those that a page shows."""


class Shown(NamedTuple):
    """One picture to look at."""

    group: str
    jpg: bytes
    lines: tuple[tuple[str, str], ...]
    right: bool | None


def publish(
    output: Output,
    name: str,
    choice: Choice,
    outcome: Outcome,
    examples: int,
    unreadable: Mapping[str, str],
    notes: Sequence[str] = (),
) -> Part:
    """Publish what a protocol found out as one part; the ledger counts examples, `failed` those not readable.

    Args:
        output: Where to.
        name: Of the row.
        choice: How it was measured.
        outcome: What was found out.
        examples: How many there are, those not readable among them.
        unreadable: Why some could not be shown, by key.
        notes: What was noticed when the data were opened.

    Raises:
        ValueError: The protocol gives another number of scores than of examples.
    """
    result = Result(
        name=name,
        benchmark=choice.benchmark,
        title=choice.spec.title,
        protocol=choice.protocol,
        language=choice.language,
        examples=examples,
        measures=tuple(outcome.measures),
        ratios={name: tuple(pairs) for name, pairs in outcome.ratios.items()},
        classes=tuple(outcome.classes),
        notes=(*notes, *outcome.notes),
        facts=outcome.facts,
        departures=departures(name, choice, examples - len(unreadable)),
        unreadable=dict(unreadable),
    )
    text = json.dumps(result.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
    files: dict[str, tuple[str, bytes]] = {"measures": (f"{name}.json", text.encode())}
    if outcome.keys:
        files["scores"] = (f"{name}.scores.parquet", parquet_bytes(_scores(outcome, name)))
    if outcome.confusion is not None:
        files["confusion"] = (f"{name}.confusion.parquet", parquet_bytes(_confusion(outcome.confusion)))
    if outcome.written:
        lines = [json.dumps(each, ensure_ascii=False) for each in outcome.written]
        files["answers"] = (
            f"{name}.answers.jsonl",
            "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"),
        )
    if outcome.examples:
        files["examples"] = (f"{name}.examples.parquet", parquet_bytes(_examples(outcome.examples[:SHOWN])))
    ledger = Ledger(listed=examples, kept=examples - len(unreadable), failed=len(unreadable))
    first = {each.name: round(each.value, 4) for each in outcome.measures[:1]}
    return output.part(name, choice.data, ledger, files, {"protocol": choice.protocol, **first})


def _scores(outcome: Outcome, name: str) -> pa.Table:
    columns: dict[str, Any] = {"key": pa.array(list(outcome.keys), pa.string())}
    for measure, values in outcome.scores.items():
        if len(values) != len(outcome.keys):
            raise ValueError(f"{name}: {measure} has {len(values)} scores for {len(outcome.keys)} examples")
        columns[measure] = pa.array(np.asarray(values, dtype=np.float64))
    return pa.table(columns)


def _confusion(counts: npt.NDArray[np.int64]) -> pa.Table:
    right, answer = np.nonzero(counts)
    return pa.table([right, answer, counts[right, answer]], schema=CONFUSION)


def _examples(examples: Sequence[Example]) -> pa.Table:
    rows = [
        {
            "group": each.group,
            "jpg": _small(each.picture),
            "names": [name for name, _ in each.lines],
            "texts": [text for _, text in each.lines],
            "right": each.right,
        }
        for each in examples
    ]
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


def _small(picture: Image.Image) -> bytes:
    small, out = picture.convert("RGB"), io.BytesIO()
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    small.save(out, "JPEG", quality=85)
    return out.getvalue()


def read_result(store: Store, manifest: Manifest, part: Part) -> Result:
    """Return what is told of a row."""
    return Result.model_validate_json(read_file(store, manifest, part.files["measures"]))


def read_scores(store: Store, manifest: Manifest, part: Part) -> tuple[list[str], dict[str, Floats]]:
    """Return the examples' keys, and per measure their scores; nothing where the row has none."""
    if "scores" not in part.files:
        return [], {}
    table = read_table(store, manifest, part, "scores")
    names = [name for name in table.column_names if name != "key"]
    return table["key"].to_pylist(), {name: np.asarray(table[name].to_numpy()) for name in names}


def read_confusion(store: Store, manifest: Manifest, part: Part, classes: int) -> npt.NDArray[np.int64] | None:
    """Return how often each class was taken for which, shape (classes, classes); None where the row has none."""
    if "confusion" not in part.files:
        return None
    table = read_table(store, manifest, part, "confusion")
    counts = np.zeros((classes, classes), dtype=np.int64)
    counts[table["right"].to_numpy(), table["answer"].to_numpy()] = table["count"].to_numpy()
    return counts


def read_written(store: Store, manifest: Manifest, part: Part) -> Written:
    """Return what a model wrote; nothing where the row is about no texts."""
    if "answers" not in part.files:
        return Written()
    file = part.files["answers"]
    lines = read_file(store, manifest, file).split(b"\n")[:-1]
    return Written(manifest.key(file), len(lines), [json.loads(line) for line in lines[:WRITTEN]])


def read_shown(store: Store, manifest: Manifest, part: Part) -> list[Shown]:
    """Return the pictures to look at."""
    if "examples" not in part.files:
        return []
    return [
        Shown(row["group"], row["jpg"], tuple(zip(row["names"], row["texts"], strict=True)), row["right"])
        for row in read_table(store, manifest, part, "examples").to_pylist()
    ]
