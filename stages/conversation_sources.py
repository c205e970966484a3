"""Instruction data of one's own, as a recipe names it: which file, in which format, and where its pictures lie."""

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.storage import sha256_file
from stages.conversation_pictures import STORE
from stages.manifest import ManifestError, digest_of
from stages.training.order import Weight

Format = Literal["jsonl", "llava", "vqa", "rows", "qa_tar"]
ASKED = ("vqa", "rows", "qa_tar")
"""Formats of questions with answers, of which conversations are made."""
SHORT = "Answer the question using a single word or phrase."
"""What follows a question whose answer is a word or two (arXiv:2312.14238, appendix)."""
Mixing = Literal["repeat", "square_root"]

_NAME = re.compile(r"[0-9a-z_]{1,60}")
_UNNAMED = re.compile(r"[^0-9a-z_]+")


class OwnConversations(BaseModel):
    """One source of instruction data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Its artifact is conversations/NAME.")
    format: Format = Field(
        description="jsonl: official annotations, a row a line; llava: an array of such rows, as of LLaVA and "
        "ShareGPT4V; vqa: VQAv2's questions, with `answers`; rows: a parquet of questions and answers; "
        "qa_tar: a tar of pictures, each with a .json that holds `qa`."
    )
    path: str = Field(description="The file, of this machine or, as store://KEY, of the store.")
    answers: str | None = Field(default=None, description="VQAv2's annotations, which go with its questions.")
    root: str | None = Field(
        default=None, description="Folder or uncompressed tar that picture names are relative to; also store://KEY."
    )
    repeat: float = Field(
        default=1.0,
        gt=0,
        description="Times that its rows come in a mixture while others come once; below 1 the first share of them.",
    )
    max_dynamic_patch: int | None = Field(
        default=None, ge=1, description="Most tiles of its pictures; the training's when left out."
    )
    data_augment: bool = Field(
        default=False, description="Show its pictures encoded again, as JPEG of quality 75 to 100."
    )
    suffix: str | None = Field(
        default=None, description="Follows each question; of vqa and qa_tar the official request for a short answer."
    )
    language: str | None = Field(default=None, description="Of its rows that name none, for tables by language.")
    text_only: bool = Field(
        default=False, description="Leave the pictures out. The answers are then guessed, not seen: for trials."
    )
    on_bad_row: Literal["drop", "fail"] = Field(
        default="drop", description="drop: count, list and leave out; fail: end the stage at the first one."
    )
    most_bad: float = Field(default=0.1, ge=0, le=1, description="Share of bad rows above which the stage ends.")
    content_digest: str = Field(default="", description="Of the files named here, so that a change is seen.")

    @model_validator(mode="after")
    def _fits(self) -> "OwnConversations":
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot be a source's name; use 1 to 60 of a-z, 0-9 and _")
        if (self.format == "vqa") != (self.answers is not None):
            raise ValueError(
                f"{self.name}: format vqa, and no other, takes annotations in answers beside its questions"
            )
        if self.suffix is not None and self.format not in ASKED:
            raise ValueError(f"{self.name}: conversations of format {self.format} take no suffix; leave it out")
        for path in (self.path, self.answers, self.root):
            if path and "://" in path and not path.startswith(STORE):
                raise ValueError(f"{self.name}: {path} lies on a network; fetch it first, or put it into the store")
        return self

    @property
    def asked_with(self) -> str:
        """What follows each question."""
        return self.suffix if self.suffix is not None else SHORT if self.format in ("vqa", "qa_tar") else ""

    @property
    def pictures(self) -> str | None:
        """Where its pictures lie."""
        return self.root if self.root or self.format != "qa_tar" else self.path


def pin(source: OwnConversations) -> OwnConversations:
    """Return a source with the hash of its local files; of a picture folder nothing, of a picture tar its size.

    Raises:
        ManifestError: A file is missing.
    """
    found: list[Any] = []
    for path in (source.path, source.answers):
        if path and not path.startswith(STORE):
            _there(path)
            found.append(sha256_file(Path(path)))
    if source.root and not source.root.startswith(STORE):
        if not Path(source.root).exists():
            raise ManifestError(f"{source.name}: there is no {source.root}; root is the folder or tar of pictures")
        found.append(Path(source.root).stat().st_size if Path(source.root).is_file() else "folder")
    return source.model_copy(update={"content_digest": digest_of(found)})


def mixture(sources: tuple[OwnConversations, ...], mixing: Mixing) -> tuple[Weight, ...]:
    """Return how much of a training comes from each: by its rows and repeats, or by the square root of that.

    Fractions are not given again: they took rows away already. By name, since the order of rows is by name too.
    """
    times = {f"conversations/{each.name}": max(1.0, each.repeat) for each in sources}
    return tuple(
        Weight(name=name, repeat=value) if mixing == "repeat" else Weight(name=name, square_root=value)
        for name, value in sorted(times.items())
    )


def named(path: str, root: str | None = None) -> tuple[OwnConversations, ...]:
    """Return the sources in a file, their format told by what the file holds.

    Args:
        path: Meta JSON, annotations, or VQAv2's questions and annotations with a comma between them.
        root: Where picture names start; of a meta file, what its paths are relative to.

    Raises:
        ManifestError: It is missing, or none of the formats.
    """
    questions, comma, answers = path.partition(",")
    _there(questions)
    kind = _format(questions)
    if kind == "meta":
        return expanded(questions, root)
    if kind == "vqa" and not comma:
        raise ManifestError(f"{path} holds VQAv2's questions; name its annotations too: {path},ANNOTATIONS.json")
    return (
        OwnConversations(
            name=_named(Path(questions).stem), format=kind, path=questions, answers=answers or None, root=root
        ),
    )


def _named(text: str) -> str:
    """Return the name that an artifact may have."""
    return _UNNAMED.sub("_", text.lower()).strip("_")[:60] or "own"


def _there(path: str) -> None:
    if not Path(path).is_file():
        raise ManifestError(f"there is no file {path}; instruction data is a file of one of the formats")


def _format(path: str) -> Any:
    """Return a file's format, or `meta`."""
    by_suffix = {".jsonl": "jsonl", ".parquet": "rows", ".tar": "qa_tar"}
    if found := by_suffix.get(Path(path).suffix):
        return found
    with open(path, "rb") as file:
        head = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"["):
        return "llava"
    if head.startswith(b"{") and b'"annotation"' in head:
        return "meta"
    if head.startswith(b"{") and b'"questions"' in head:
        return "vqa"
    raise ManifestError(
        f"{path} is no instruction data that is known here: no meta JSON, .jsonl, array of rows, VQAv2 questions, "
        "parquet or tar; docs/how-to/instruct-on-your-own-data.md shows each"
    )


def expanded(path: str, base: str | None = None) -> tuple[OwnConversations, ...]:
    """Return the sources of an official meta JSON: an object of {root, annotation, ...} by name.

    Args:
        path: The meta file.
        base: What its relative paths start from; the meta file's own folder when left out.

    Raises:
        ManifestError: It is not JSON, or a source of it is not as the format wants it.
    """
    try:
        told = json.loads(Path(path).read_text("utf-8-sig"))
        if not isinstance(told, dict) or not told:
            raise ValueError("it is no object of sources by name")
        return tuple(_source(name, each, Path(base or Path(path).parent)) for name, each in told.items())
    except ValueError as error:
        raise ManifestError(f"meta file {path}: {error}") from error


def _source(name: str, told: Any, base: Path) -> OwnConversations:
    if not isinstance(told, dict) or not isinstance(told.get("annotation"), str):
        raise ValueError(f"source {name!r} names no annotation")
    if not told["annotation"].endswith(".jsonl"):
        raise ValueError(f"source {name!r}: the annotation {told['annotation']} must end in .jsonl")
    known = {"root", "annotation", "data_augment", "repeat_time", "length", "max_dynamic_patch"}
    if foreign := sorted(set(told) - known):
        raise ValueError(f"source {name!r} has {foreign[0]!r}; known are {', '.join(sorted(known))}")
    return OwnConversations(
        name=_named(name),
        format="jsonl",
        path=str(base / told["annotation"]),
        root=str(base / told["root"]) if told.get("root") else None,
        repeat=told.get("repeat_time", 1),
        data_augment=told.get("data_augment", False),
        max_dynamic_patch=told.get("max_dynamic_patch"),
    )
