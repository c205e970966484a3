"""Weights in files, read and written one tensor at a time: safetensors in one file or in shards, and `.pth`.

A published model is larger than most machines' memory. What is read here is read when it is asked
for, and what is written is written before the next tensor is asked for. Nothing is ever unpickled:
`.pth` files are opened by PyTorch's weights-only reader, which knows tensors and containers alone.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.renaming import State, WeightsError, refuse
from stages.output import Hashed
from stages.pth_files import PthFile, open_pth

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9
"""Bytes of one file at most, unless one tensor is larger: what the published models use."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class SafetensorsFiles(Mapping[str, Tensor]):
    """Tensors of one or several safetensors files; each is read when it is asked for, and not kept."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        """Take tensor names and the files that hold them."""
        self._files = dict(files)

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor."""
        with safe_open(self._files[name], framework="pt") as file:
            # A copy, as the tensor would keep the whole file mapped.
            return torch.as_tensor(file.get_tensor(name)).clone()

    def __contains__(self, name: object) -> bool:
        """Look a name up without reading."""
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._files)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._files)

    def on_meta(self) -> dict[str, Tensor]:
        """Return all tensors without their numbers, as the files' heads describe them."""
        found: dict[str, Tensor] = {}
        for path in sorted(set(self._files.values())):
            with safe_open(path, framework="pt") as file:
                for name in [each for each, where in self._files.items() if where == path]:
                    piece = file.get_slice(name)
                    if piece.get_dtype() not in _DTYPES:
                        raise WeightsError(
                            f"weight {name!r} has the type {piece.get_dtype()}, which is not read here"
                        )
                    found[name] = torch.empty(piece.get_shape(), dtype=_DTYPES[piece.get_dtype()], device="meta")
        return {name: found[name] for name in self._files}


def _names_in(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise WeightsError(f"{path} is no whole safetensors file: {error}") from error


def _open_shards(index: Path) -> SafetensorsFiles:
    """Return the tensors of a sharded model.

    Raises:
        WeightsError: The index and the files beside it disagree; everything that differs is named.
    """
    placed = json.loads(index.read_bytes()).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
        raise WeightsError(f"{index} holds no weight_map from names to files")
    files = sorted(set(placed.values()))
    problems = [f"file {file!r} is not beside {index.name}" for file in files if Path(file).name != file]
    problems += [f"file {file!r} is missing" for file in files if not (index.parent / file).is_file()]
    refuse(problems, f"{index}")
    held = {(name, file) for file in files for name in _names_in(index.parent / file)}
    listed = set(placed.items())
    problems = [f"weight {name!r} is missing in {file}" for name, file in sorted(listed - held)]
    problems += [f"weight {name!r} of {file} is not in the index" for name, file in sorted(held - listed)]
    refuse(problems, f"{index}")
    return SafetensorsFiles({name: index.parent / file for name, file in placed.items()})


def open_weights(path: Path) -> State:
    """Return the weights of a folder (one safetensors file, or shards with an index) or of a file.

    Raises:
        FileNotFoundError: There are none.
        WeightsError: A file is damaged, or holds something else.
    """
    if path.is_dir():
        if (path / INDEX).is_file():
            return _open_shards(path / INDEX)
        path = path / ONE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; weights lie in {ONE_FILE}, in shards with {INDEX}, or in a .pth")
    if path.suffix == ".safetensors":
        return SafetensorsFiles(dict.fromkeys(_names_in(path), path))
    return open_pth(path)


def on_meta(weights: State) -> dict[str, Tensor]:
    """Return weights without their numbers: shapes and types alone, without reading files."""
    if isinstance(weights, SafetensorsFiles | PthFile):
        return weights.on_meta()
    return {name: torch.empty_like(weights[name], device="meta") for name in weights}


class _Shard(NamedTuple):
    """One file to be written: its beginning, and what follows in the order of writing."""

    head: bytes
    described: dict[str, Tensor]


def _plan(described: State, shard_bytes: int) -> list[_Shard]:
    """Return what goes into each file; wide types come first, so that all numbers are aligned."""
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, like in described.items():
        if shards[-1] and used + like.nbytes > shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = like
        used += like.nbytes
    ordered = [
        {name: shard[name] for name in sorted(shard, key=lambda each: (-shard[each].element_size(), each))}
        for shard in shards
    ]
    return [_Shard(_head(shard), shard) for shard in ordered]


def writing_order(described: State, shard_bytes: int = SHARD_BYTES) -> list[str]:
    """Return the names of weights in the order in which `write_weights` asks for them."""
    return [name for shard in _plan(described, shard_bytes) for name in shard.described]


def _head(described: State) -> bytes:
    """Return the beginning of a safetensors file: its length, then names, types, shapes and places as JSON."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, like in described.items():
        if like.dtype not in _NAMES:
            raise WeightsError(f"weight {name!r} has the type {like.dtype}, which is not written here")
        ends = [start, start + like.nbytes]
        entries[name] = {"dtype": _NAMES[like.dtype], "shape": list(like.shape), "data_offsets": ends}
        start = ends[1]
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class _Hashing:
    """Hashes what passes on its way into a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _write(file: _Hashing, name: str, like: Tensor, value: Tensor) -> None:
    if value.shape != like.shape or value.dtype != like.dtype:
        raise WeightsError(f"weight {name!r} turned out as {tuple(value.shape)} {value.dtype}, not as described")
    file.write(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def write_weights(weights: State, described: State, folder: Path, shard_bytes: int = SHARD_BYTES) -> list[Hashed]:
    """Write weights as safetensors, one tensor at a time; several files get an index, which comes last.

    Args:
        weights: Each is asked for once, in `writing_order`, written, and let go; on any device.
        described: The same weights without their numbers, as `on_meta` returns them.
        folder: Where they go; made if missing. Files of these names are replaced.
        shard_bytes: Most bytes of one file, unless a single tensor is larger.

    Returns:
        The files written, hashed on the way. The same weights give the same bytes.

    Raises:
        WeightsError: A weight is not as described, or of a type that the format does not know.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = _plan(described, shard_bytes)
    count = len(shards)
    names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    paths = [folder / name for name in (names if count > 1 else [ONE_FILE])]
    drafts = [path.with_name(f"{path.name}.partial") for path in paths]
    hashes = []
    try:
        for draft, shard in zip(drafts, shards, strict=True):
            with draft.open("wb") as file:
                hashing = _Hashing(file)
                hashing.write(shard.head)
                for name, like in shard.described.items():
                    _write(hashing, name, like, weights[name])
                hashes.append(hashing.sha256)
    except BaseException:
        for draft in drafts:
            draft.unlink(missing_ok=True)
        raise
    (folder / INDEX).unlink(missing_ok=True)
    for draft, path in zip(drafts, paths, strict=True):
        draft.replace(path)
    written = [Hashed(path, sha256) for path, sha256 in zip(paths, hashes, strict=True)]
    if count == 1:
        return written
    (folder / ONE_FILE).unlink(missing_ok=True)  # else a reader would find an older model beside this one
    placed = {name: path.name for path, shard in zip(paths, shards, strict=True) for name in shard.described}
    index = {
        "metadata": {"total_size": sum(like.nbytes for like in described.values())},
        "weight_map": dict(sorted(placed.items())),
    }
    text = (json.dumps(index, indent=2) + "\n").encode()
    (folder / INDEX).write_bytes(text)
    return [*written, Hashed(folder / INDEX, hashlib.sha256(text).hexdigest())]
