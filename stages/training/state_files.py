"""How a restartable state lies in the store: safetensors and JSON, every file bound by its hash.

    <state>/000003-step-00000012/shard-00000-of-00002.safetensors   what this process wrote of all tensors
                                 shard-00000-of-00002.json          which pieces these are; its random generators
                                 history.jsonl                      one line per step
                                 state.json                         last: step and the hash of every file
    <state>/latest.json                                             which state is the newest, for people

The leading number counts the saves of a run over all its restarts. It orders states, never a clock:
after a roll-back a later state may be of an earlier step. Nothing here is pickled, and no file is
parsed before its bytes have the hash that `state.json` says; `state.json` carries its own.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from infra.failpoints import failpoint
from infra.storage import Store, sha256_file
from stages.manifest import sealed, unsealed

SCHEMA = 1
STATE, LATEST, HISTORY = "state.json", "latest.json", "history.jsonl"
_NAME = re.compile(r"(?P<number>\d{6,})-step-(?P<step>\d{8,})")

Model = TypeVar("Model", bound=BaseModel)


class Damaged(Exception):
    """A state is not what was written; the message says which file and how."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Piece(_Frozen):
    """Where a stored piece lies in its whole tensor."""

    whole: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]


class Shard(_Frozen):
    """What one process wrote."""

    rank: int
    tensors: str = ""
    """Name of its safetensors file; empty where no tensor was its to write."""
    files: dict[str, str] = Field(default_factory=dict)
    """Name to sha256."""
    pieces: dict[str, Piece] = Field(default_factory=dict)
    generators: dict[str, Any]
    extras: dict[str, Any] = Field(default_factory=dict)
    """What other parts of the loop asked to keep; of the first process alone."""


class State(_Frozen):
    """One whole state: it exists means that all its files do."""

    schema_version: int = SCHEMA
    number: int
    step: int
    processes: int
    schedule: str
    """Digest of the schedule."""
    data: dict[str, Any]
    """What the order of samples is a function of, beside the step."""
    metrics: dict[str, float]
    """What the last step measured."""
    files: dict[str, str]
    """Name to sha256 of every other file."""


@dataclass(frozen=True)
class Folder:
    """One state's folder in the store; whole once `state.json` stands."""

    store: Store
    root: str
    number: int
    step: int

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return f"{self.number:06d}-step-{self.step:08d}"

    def key(self, file: str) -> str:
        """Return the store key of a file."""
        return f"{self.root}/{self.name}/{file}"

    def state(self) -> State:
        """Return what `state.json` says.

        Raises:
            Damaged: It is missing, not ours, or changed after it was written.
        """
        found = _parsed(self.name, STATE, self._read(STATE), State)
        if (found.number, found.step) != (self.number, self.step):
            raise Damaged(f"{self.name}/{STATE} is the one of state {found.number} at step {found.step}")
        return found

    def shards(self, state: State) -> list[Shard]:
        """Return what the processes wrote, in their order.

        Raises:
            Damaged: A record is missing or changed.
        """
        names = [shard_name(rank, state.processes, "json") for rank in range(state.processes)]
        return [_parsed(self.name, name, self.checked(name, state), Shard) for name in names]

    def checked(self, file: str, state: State) -> bytes:
        """Return a small file's bytes, refused unless they have the hash that they had.

        Raises:
            Damaged: The file is missing, or its hash differs.
        """
        for _ in range(2):  # damage on the way is not there the second time
            data = self._read(file)
            if hashlib.sha256(data).hexdigest() == state.files.get(file):
                return data
        raise Damaged(f"{self.name}/{file} differs from its sha256")

    @contextmanager
    def local(self, file: str, state: State) -> Iterator[Path]:
        """Yield a local path with a large file's bytes, refused unless they have the hash that they had.

        Raises:
            Damaged: The file is missing, or its hash differs.
        """
        try:
            with self.store.local(self.key(file)) as path:
                if sha256_file(path) != state.files.get(file):
                    raise Damaged(f"{self.name}/{file} differs from its sha256")
                yield path
        except FileNotFoundError as error:
            raise Damaged(f"{self.name}/{file} is missing") from error

    def remove(self) -> None:
        """Remove the state: first what makes it count, so that half of it never counts."""
        self.store.remove(self.key(STATE))
        failpoint("during_removal")
        self.store.remove(f"{self.root}/{self.name}")

    def _read(self, file: str) -> bytes:
        try:
            return self.store.read(self.key(file))
        except FileNotFoundError as error:
            raise Damaged(f"{self.name}/{file} is missing") from error


@dataclass(frozen=True)
class Found:
    """The states below one folder."""

    whole: dict[int, Folder]
    """By number, ascending."""
    partial: list[Folder]
    """Folders without `state.json`: still being written, left by a killed run, or half removed."""


def find_states(store: Store, root: str) -> Found:
    """List the states below a folder."""
    whole, seen = {}, {}
    for key in store.keys(root):
        name, _, file = key.removeprefix(f"{root}/").partition("/")
        if match := _NAME.fullmatch(name):
            folder = Folder(store, root, int(match["number"]), int(match["step"]))
            seen[name] = folder
            if file == STATE:
                whole[folder.number] = folder
    complete = {folder.name for folder in whole.values()}
    return Found(dict(sorted(whole.items())), [each for name, each in seen.items() if name not in complete])


def shard_name(rank: int, processes: int, ending: str) -> str:
    """Return the name of a process's file."""
    return f"shard-{rank:05d}-of-{processes:05d}.{ending}"


def record(value: BaseModel) -> bytes:
    """Return a record as JSON that carries the digest of the rest of itself."""
    return sealed(value.model_dump(mode="json"))


def _parsed(folder: str, name: str, data: bytes, kind: type[Model]) -> Model:
    try:
        return kind.model_validate(unsealed(data))
    except ValueError as error:
        raise Damaged(f"{folder}/{name} cannot be read: {error}") from error
