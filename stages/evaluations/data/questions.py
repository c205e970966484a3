"""Questions about pictures, in the lists that the public sets come as.

```
VQAv2, OKVQA      *questions*.json with questions[] and *annotations*.json with annotations[]
GQA               {question id: {"imageId": ..., "question": ..., "answer": ...}}
TextVQA, DocVQA   {"data": [{"question": ..., "image": ..., "answers": [...]}]}
ChartQA, VizWiz   [{...}], ChartQA as test_human.json and test_augmented.json
POPE              *random*.json, *popular*.json, *adversarial*.json, one JSON object a line
MME               a folder per subtask: pictures, and a .txt of each with two lines question<TAB>answer
MMBench           a .tsv with the pictures in base64; ScienceQA: problems.json, or one JSON object a line
```
Pictures lie in any folders below the place.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.evaluations.base import Question
from stages.evaluations.data import base64_table
from stages.evaluations.data.captions import lists_at, picture_place, with_word
from stages.evaluations.data.places import PICTURES, SPLITS, Pictures, Request, files_below, read_json
from stages.evaluations.data.records import question_of, word_of
from stages.evaluations.data.rows import FileBody, Found, Row
from stages.manifest import ManifestError

_KINDS = ("human", "augmented", "random", "popular", "adversarial")
"""Parts of ChartQA and POPE, each in a file of its own."""
_MME_ANSWERS = "questions_answers_YN"


def fits(request: Request) -> bool:
    """Say whether lists of questions, or MME's folders, lie at a place."""
    return bool(_files(request)) or _is_mme(request.place)


def read(request: Request) -> Found:
    """Return a split's examples.

    Raises:
        ManifestError: A list has a form that is not known, or says no answers.
    """
    if _is_mme(request.place):
        return Found(_of_mme(request.place))
    files = _files(request)
    if len(files) == 1 and files[0].suffix == ".tsv":
        return Found(base64_table.read(files[0], request.benchmark.reading))
    pictures = Pictures(picture_place(files[0]))
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for record, category in _of_split(list(_records(files)), request.split):
        rows.append(_row(record, category, request, pictures, seen))
    if not rows:
        raise ManifestError(f"{request.place} asks nothing in the split {request.split}; name the list of another")
    return Found(rows)


def _files(request: Request) -> list[Path]:
    """Return the lists of a split: all that have its name, or all where none has."""
    found = [path for path in lists_at(request.place) if path.suffix in (".json", ".jsonl", ".tsv")]
    answered = [path for path in found if "annotations" in path.stem]
    for name in SPLITS[request.split]:
        chosen = with_word(found, [name])
        # Of VQAv2 the questions of more splits are published than the answers.
        if chosen and (not answered or any(path in answered for path in chosen)):
            return chosen
    other = with_word(found, SPLITS["train" if request.split == "test" else "test"])
    return [path for path in found if path not in other]


def _records(files: list[Path]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the records of all lists with the part that their file is about."""
    told = [(path, read_json(path)) for path in files]
    answers = {
        each["question_id"]: each
        for _, whole in told
        if isinstance(whole, dict)
        for each in whole.get("annotations", [])
        if isinstance(each, dict) and "question_id" in each
    }
    for path, whole in told:
        kind = next((kind for kind in _KINDS if kind in path.stem.lower()), "")
        if isinstance(whole, dict) and "questions" in whole:
            yield from ((each, kind) for each in _answered(whole, answers, path))
        elif isinstance(whole, dict) and word_of("question", whole, {}):
            # One JSON object a line, and one line.
            yield whole, kind
        elif isinstance(whole, dict) and isinstance(whole.get("data"), list):
            yield from ((each, kind) for each in whole["data"])
        elif isinstance(whole, list):
            yield from ((each, kind) for each in whole)
        elif isinstance(whole, dict) and "annotations" not in whole:
            named = (({"id": name, **_record(each)}, kind) for name, each in whole.items())
            # ScienceQA has questions without a picture too, which do not count.
            yield from (each for each in named if "image" not in each[0] or each[0]["image"] is not None)


def _of_split(records: list[tuple[Mapping[str, Any], str]], split: str) -> list[tuple[Mapping[str, Any], str]]:
    """Return the records of the split: all of them where they do not say theirs."""
    said = [str(_record(record).get("split", "")).lower() for record, _ in records]
    if not any(said):
        return records
    word = next((word for word in SPLITS[split] if word in said), None)
    return [each for each, own in zip(records, said, strict=True) if own == word]


def _record(each: Any) -> Mapping[str, Any]:
    if not isinstance(each, dict):
        raise ManifestError(f"a list has {str(each)[:40]!r} where a question is expected; fetch it again")
    return each


def _answered(
    whole: Mapping[str, Any], answers: Mapping[Any, Mapping[str, Any]], path: Path
) -> Iterator[Mapping[str, Any]]:
    """Yield VQAv2's questions with their answers, which come in a file of their own."""
    subtype = whole.get("data_subtype")
    for each in whole["questions"]:
        if each["question_id"] not in answers:
            raise ManifestError(
                f"question {each['question_id']} of {path.name} has no answer beside it; put the annotations of this "
                "split there (those of test splits are not published: take the validation split)"
            )
        said = answers[each["question_id"]]
        number = f"{int(each['image_id']):012d}"
        image = {"image": f"COCO_{subtype}_{number}.jpg" if subtype else number}
        yield {**image, **each, "answers": said["answers"], "category": said.get("answer_type", "")}


def _row(record: Mapping[str, Any], category: str, request: Request, pictures: Pictures, seen: dict[str, int]) -> Row:
    called = request.benchmark.reading.columns
    image, id_ = word_of("image", record, called), word_of("key", record, called)
    asked = question_of(record, called, category)
    name = str(record[image]) if image else ""
    label = str(record[id_]) if id_ else name
    key = f"{asked.category}/{label}" if category and asked.category == category else label
    # Lists without numbers ask several questions about one picture.
    seen[key] = seen.get(key, 0) + 1
    key = key if seen[key] == 1 else f"{key}#{seen[key]}"
    bodies = (FileBody(pictures.find(name)),) if name else ()
    return Row(key, bodies, question=asked, group=name)


def _is_mme(place: Path) -> bool:
    return place.is_dir() and next(_mme_pairs(place), None) is not None


def _mme_pairs(place: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield (subtask, picture, its questions) of both layouts that MME is given out in."""
    for task in sorted(each for each in place.iterdir() if each.is_dir()):
        images, texts = (task / "images", task / _MME_ANSWERS) if (task / _MME_ANSWERS).is_dir() else (task, task)
        for text in files_below(texts, (".txt",)):
            for suffix in PICTURES:
                if (picture := images / f"{text.stem}{suffix}").is_file():
                    yield task.name, picture, text
                    break


def _of_mme(place: Path) -> list[Row]:
    rows = []
    for task, picture, text in _mme_pairs(place):
        for number, line in enumerate(text.read_text(encoding="utf-8-sig").strip().splitlines()):
            asked, found, answer = line.rpartition("\t")
            if not found or answer.strip().lower() not in ("yes", "no"):
                raise ManifestError(f"line {number + 1} of {text} is no question<TAB>Yes or No; fetch MME again")
            question = Question(asked.strip(), (answer.strip(),), (), task)
            name = f"{task}/{picture.name}"
            rows.append(Row(f"{name}#{number + 1}", (FileBody(picture),), question=question, group=name))
    return rows
