"""Instruction data of one's own, as a recipe names it: which file, in which format, and where its pictures lie."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.storage import Store, sha256_file
from stages.conversation_pictures import STORE, is_tar
from stages.manifest import ManifestError, digest_of
from stages.training.order import Weight

Format = Literal["jsonl", "llava", "vqa", "rows", "qa_tar"]
ASKED = ("vqa", "rows", "qa_tar")
"""Formats of questions with answers, of which conversations are made."""
SHORT = "Answer the question using a single word or phrase."
"""What follows a question whose answer is a word or two (arXiv:2312.14238, appendix)."""
Mixing = Literal["repeat", "square_root"]

_NAME = re.compile(r"[0-9a-z_]{1,60}")


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


def hashes(source: OwnConversations, store: Store) -> list[str]:
    """Return the hashes of the files that rows are in, as they are now.

    Raises:
        ManifestError: One is missing.
    """
    found = []
    for path in (source.path, source.answers):
        try:
            if path and path.startswith(STORE):
                found.append(store.sha256(path.removeprefix(STORE)))
            elif path:
                found.append(sha256_file(Path(path)))
        except FileNotFoundError:
            raise ManifestError(f"source {source.name}: there is no {path}; name a file that is there") from None
    return found


def pin(source: OwnConversations, store: Store) -> OwnConversations:
    """Return a source with the hash of its files; of a picture folder nothing, of a picture tar its size.

    Raises:
        ManifestError: A file is missing.
    """
    found: list[Any] = hashes(source, store)
    if source.root:
        try:
            found.append(_size(source.root, store))
        except FileNotFoundError:
            raise ManifestError(
                f"{source.name}: there is no {source.root}; root is the folder or tar of pictures"
            ) from None
    return source.model_copy(update={"content_digest": digest_of(found)})


def _size(root: str, store: Store) -> int | str:
    if root.startswith(STORE):
        # A folder of the store is there as soon as something is in it, and listing all of it may take long.
        return store.size(root.removeprefix(STORE)) if is_tar(root) else "folder"
    return Path(root).stat().st_size if not Path(root).is_dir() else "folder"


def mixture(sources: tuple[OwnConversations, ...], mixing: Mixing) -> tuple[Weight, ...]:
    """Return how much of a training comes from each: by its rows and repeats, or by the square root of that.

    Fractions are not given again: they took rows away already. By name, since the order of rows is by name too.
    """
    times = {f"conversations/{each.name}": max(1.0, each.repeat) for each in sources}
    return tuple(
        Weight(name=name, repeat=value) if mixing == "repeat" else Weight(name=name, square_root=value)
        for name, value in sorted(times.items())
    )
