"""Instruction data as others publish it, read into rows of the official format, each with its place in its file."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage import Store
from stages.conversation_pictures import FRAMES, contents, opened
from stages.conversation_rows import COORDINATES, RowError
from stages.conversation_sources import OwnConversations
from stages.manifest import ManifestError

_SPACE = re.compile(r"[ \t\r\n]*")
_BOX_OF = re.compile(r"width=(\d+) height=(\d+) answer=bbox\b.*")
_CORNERS = re.compile(r"\[(\d+), ?(\d+), ?(\d+), ?(\d+)\]")
NEEDED, OPTIONAL = ("question", "answer"), ("image", "context", "source", "language", "id")
"""Columns of a table of questions and answers: texts, ids perhaps whole numbers."""


class Raw(NamedTuple):
    """A row and where it stands, such as `line 7`; a RowError where it cannot even be taken apart."""

    where: str
    given: Any


def rows_of(source: OwnConversations, store: Store) -> Iterator[Raw]:
    """Yield the rows of a source in their order.

    Raises:
        ManifestError: A file is missing, or as a whole not of its format.
    """
    with opened(source.path, store) as file:
        yield from _READERS[source.format](file, source, store)


def _lines(file: IO[bytes], source: OwnConversations, store: Store) -> Iterator[Raw]:
    for number, line in enumerate(file, 1):
        text = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not text:
            continue
        try:
            yield Raw(f"line {number}", json.loads(text.decode()))
        except (ValueError, RecursionError) as error:
            yield Raw(f"line {number}", RowError("json", f"it is not JSON ({_brief(error)})"))


def _array(file: IO[bytes], source: OwnConversations, store: Store) -> Iterator[Raw]:
    text = _text(file, source.path)
    for line, value in array_items(text, source.path):
        yield Raw(f"line {line}", value)


def array_items(text: str, path: str) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of each item of a JSON array, the line counted from 1.

    Raises:
        ManifestError: It is no array, or breaks off; the message names the line.
    """
    decode = json.JSONDecoder().raw_decode
    at = _skip(text, 0)
    line, counted = 1, 0

    def broken(what: object) -> ManifestError:
        return ManifestError(f"{path}, line {line}: {what}; give one whole JSON array of rows")

    if text[at : at + 1] != "[":
        raise broken("it is no array")
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return
    while True:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decode(text, at)
        except (ValueError, RecursionError) as error:
            raise broken(_brief(error)) from error
        yield line, value
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return
        if text[at : at + 1] != ",":
            raise broken("a comma is missing behind this row")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _vqa(file: IO[bytes], source: OwnConversations, store: Store) -> Iterator[Raw]:
    """Yield VQAv2's questions with the answer most people gave; pictures are named as COCO names them."""
    told = _object(file, source.path, "questions")
    with opened(str(source.answers), store) as other:
        given = _object(other, str(source.answers), "annotations")["annotations"]
    answers = {_name(each): _most_common(each) for each in given if isinstance(each, dict)}
    subset = told.get("data_subtype", "")
    for number, asked in enumerate(told["questions"], 1):
        if not isinstance(asked, dict) or not (name := _name(asked)):
            yield Raw(f"question {number}", RowError("shape", "it is no object with a question_id"))
            continue
        where, answer = f"question {name}", answers.get(name)
        if answer is None:
            yield Raw(where, RowError("shape", f"{source.answers} has no answer to it"))
            continue
        image = asked.get("image")
        if image is None and isinstance(asked.get("image_id"), int):
            image = f"COCO_{subset}_{asked['image_id']:012d}.jpg" if subset else f"{asked['image_id']:012d}.jpg"
        yield Raw(where, _row(source, name, [(asked.get("question"), answer)], image))


def _name(given: dict[str, Any]) -> str:
    return str(given.get("question_id", ""))


def _most_common(annotation: dict[str, Any]) -> str | None:
    if isinstance(chosen := annotation.get("multiple_choice_answer"), str):
        return chosen
    said = [each.get("answer") for each in annotation.get("answers", ()) if isinstance(each, dict)]
    texts = [each for each in said if isinstance(each, str)]
    return Counter(texts).most_common(1)[0][0] if texts else None


def _table(file: IO[bytes], source: OwnConversations, store: Store) -> Iterator[Raw]:
    """Yield the rows of a parquet; `context` stands before the question, and boxes in pixels become official ones."""
    try:
        table = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise ManifestError(f"{source.path} is no parquet file ({_brief(error)})") from error
    columns, number = _columns(table.schema_arrow, source.path), 0
    for batch in table.iter_batches(columns=columns):
        for row in batch.to_pylist():
            number += 1
            yield Raw(f"row {number}", _asked(source, number, row))


def _columns(schema: pa.Schema, path: str) -> list[str]:
    """Return the columns that are read.

    Raises:
        ManifestError: One is missing, or holds no texts.
    """
    if missing := [name for name in NEEDED if name not in schema.names]:
        raise ManifestError(f"{path} has no column {missing[0]!r}; it has {', '.join(sorted(schema.names))}")
    found = [name for name in (*NEEDED, *OPTIONAL) if name in schema.names]
    for name in found:
        kind = schema.field(name).type
        fits = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
        if not fits and not (name == "id" and pa.types.is_integer(kind)):
            raise ManifestError(
                f"{path}: column {name!r} holds {kind} and texts are wanted; pictures are named there"
            )
    return found


def _asked(source: OwnConversations, number: int, row: dict[str, Any]) -> dict[str, Any]:
    context, question, answer = row.get("context"), row["question"], row["answer"]
    if isinstance(context, str) and (size := _BOX_OF.fullmatch(context.strip())):
        context, answer = None, boxed(answer, int(size[1]), int(size[2]))
    if context:
        question = f"{context}\n{question}"
    made = _row(source, str(row.get("id") or number), [(question, answer)], row.get("image"))
    return {**made, **{name: row[name] for name in ("source", "language") if row.get(name)}}


def boxed(answer: Any, width: int, height: int) -> Any:
    """Return an answer `[left, top, right, bottom]` in pixels as an official box, anything else as it is."""
    if not isinstance(answer, str) or not (found := _CORNERS.fullmatch(answer.strip())) or not width * height:
        return answer
    sides = (width, height, width, height)
    corners = [round(COORDINATES * int(value) / side) for value, side in zip(found.groups(), sides, strict=True)]
    return f"<box>[{corners}]</box>"


def _pictured(file: IO[bytes], source: OwnConversations, store: Store) -> Iterator[Raw]:
    """Yield the pictures of a tar with all their questions: `a.png` beside `a.json`, which holds `qa`."""
    there = contents(file, source.path)
    for name, place in there.items():
        if not name.endswith(".json"):
            continue
        stem = str(PurePosixPath(name).with_suffix(""))
        file.seek(place.offset)
        try:
            told = json.loads(file.read(place.size).decode())
            turns = [(each["question"], each["answer"]) for each in told["qa"]]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            yield Raw(name, RowError("shape", f"its JSON has no list qa of question and answer ({_brief(error)})"))
            continue
        image = next((stem + suffix for suffix in FRAMES if stem + suffix in there), stem + ".png")
        yield Raw(name, _row(source, stem, turns, image))


def _row(source: OwnConversations, name: str, turns: list[tuple[Any, Any]], image: str | None) -> dict[str, Any]:
    """Return questions and answers as an official row."""
    said = []
    for question, answer in turns:
        asked = f"{question}\n{source.asked_with}" if source.asked_with and isinstance(question, str) else question
        said += [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": said} | ({"image": image} if image else {})


def _text(file: IO[bytes], path: str) -> str:
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _object(file: IO[bytes], path: str, name: str) -> dict[str, Any]:
    try:
        told = json.loads(_text(file, path))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} is not JSON ({_brief(error)}); fetch it again") from error
    if not isinstance(told, dict) or not isinstance(told.get(name), list):
        raise ManifestError(f"{path} holds no list {name!r}; give VQAv2's {name} as published")
    return told


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


_READERS: dict[str, Callable[[IO[bytes], OwnConversations, Store], Iterator[Raw]]] = {
    "jsonl": _lines,
    "llava": _array,
    "vqa": _vqa,
    "rows": _table,
    "qa_tar": _pictured,
}
