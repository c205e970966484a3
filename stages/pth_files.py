"""`.pth` files of PyTorch: read without unpickling anything but tensors, and written one tensor at a time.

`torch.save` wants all tensors in memory before it writes the first. A `.pth` is a zip whose `data.pkl`
tells names, types and shapes and whose `data/0`, `data/1`, ... hold the numbers, none of it compressed:
so the description can be written first and each tensor when its turn comes.
"""

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from models.renaming import State, WeightsError, refuse

_STORAGES = {
    torch.float64: torch.DoubleStorage,
    torch.float32: torch.FloatStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
}
_ALIGNED = 64  # where numbers begin: PyTorch's own choice, so that a file can be mapped
_LOCAL_HEAD = 30  # bytes of an entry's head in a zip, names and additions not counted
_WIDE_HEAD = 20  # and of the addition that entries of many gigabytes need


class PthFile(Mapping[str, Tensor]):
    """Tensors of a PyTorch file; each is read when it is asked for, and not kept."""

    def __init__(self, path: Path, described: State) -> None:
        """Take tensors without numbers, whose storages know where in the file those are."""
        self._path, self._described = path, dict(described)

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor.

        Raises:
            WeightsError: The file ends before it.
        """
        like = self._described[name]
        span = 1 + sum((side - 1) * step for side, step in zip(like.shape, like.stride(), strict=True))
        if like.numel() == 0:
            return torch.empty(like.shape, dtype=like.dtype)
        # A tensor may be a part of a larger one that other names share.
        storage = like.untyped_storage()._checkpoint_offset or 0
        start = storage + int(like.storage_offset()) * like.element_size()
        with self._path.open("rb") as file:
            file.seek(start)
            data = bytearray(file.read(span * like.element_size()))
        if len(data) < span * like.element_size():
            raise WeightsError(f"{self._path} ends within the weight {name!r}; fetch the file again")
        return torch.frombuffer(data, dtype=like.dtype).as_strided(like.shape, like.stride())

    def __contains__(self, name: object) -> bool:
        """Look a name up without reading."""
        return name in self._described

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._described)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._described)

    def on_meta(self) -> dict[str, Tensor]:
        """Return all tensors without their numbers."""
        return {
            name: torch.empty(like.shape, dtype=like.dtype, device="meta") for name, like in self._described.items()
        }


def open_pth(path: Path) -> State:
    """Return the tensors of a PyTorch file, which stay in it until they are used; files before PyTorch 1.6 are read.

    Raises:
        WeightsError: The file is damaged, or holds anything but tensors.
    """
    lazy = zipfile.is_zipfile(path)
    try:
        if lazy:
            _refuse_byte_order(path)
            with FakeTensorMode():
                found = torch.load(path, map_location="cpu", weights_only=True)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, and would run code to be read; only weights are read here"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise WeightsError(f"{path} is no whole PyTorch file; fetch it again: {error}") from error
    if isinstance(found, dict) and isinstance(found.get("module"), dict):
        found = found["module"]
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}, not weights by name")
    refuse([f"{name!r} is no tensor" for name, value in found.items() if not isinstance(value, Tensor)], f"{path}")
    named = {str(name): value.detach() for name, value in found.items()}
    return PthFile(path, named) if lazy else named


def _refuse_byte_order(path: Path) -> None:
    """Refuse a file of a machine that writes numbers the other way round.

    Raises:
        WeightsError: It is one.
    """
    with zipfile.ZipFile(path) as archive:
        orders = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/byteorder")]
    if orders not in ([], [sys.byteorder]):
        raise WeightsError(f"{path} holds numbers in the byte order {orders[0]}, not {sys.byteorder}; save it again")


@dataclass(frozen=True)
class _Numbers:
    """Stands for a tensor's numbers in the description: which entry of the zip holds them."""

    storage: type
    key: str
    count: int


@dataclass(frozen=True)
class _Described:
    """Stands for a tensor; it is pickled as PyTorch pickles one."""

    numbers: _Numbers
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        rebuild = torch._utils._rebuild_tensor_v2  # the one name that every such file holds
        return rebuild, (self.numbers, 0, self.shape, self.stride, False, OrderedDict())


class _Describer(pickle.Pickler):
    def persistent_id(self, value: Any) -> tuple[str, type, str, str, int] | None:
        """Return how PyTorch refers to numbers that lie beside the pickle."""
        if isinstance(value, _Numbers):
            return "storage", value.storage, value.key, "cpu", value.count
        return None


def _description(described: State) -> bytes:
    """Return `data.pkl`.

    Raises:
        WeightsError: A weight has a type that is not written.
    """
    wrong = [f"weight {name!r} has the type {like.dtype}" for name, like in described.items()
             if like.dtype not in _STORAGES]  # fmt: skip
    refuse(wrong, "a .pth file, which holds real numbers alone")
    entries = {
        name: _Described(
            _Numbers(_STORAGES[like.dtype], str(key), like.numel()),
            tuple(like.shape),
            torch.empty(like.shape, device="meta").stride(),
        )
        for key, (name, like) in enumerate(described.items())
    }
    stream = io.BytesIO()
    _Describer(stream, protocol=2).dump(entries)
    return stream.getvalue()


def _entry(name: str, size: int, start: int) -> zipfile.ZipInfo:
    """Return the head of an entry whose numbers begin where PyTorch wants them, and with the same time always."""
    head = zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0))
    wide = _WIDE_HEAD if size * 1.05 > zipfile.ZIP64_LIMIT else 0  # as zipfile decides it
    gap = -(start + _LOCAL_HEAD + len(head.filename) + 4 + wide) % _ALIGNED
    head.extra = b"FB" + gap.to_bytes(2, "little") + b"Z" * gap
    head.file_size = size
    return head


def write_pth(weights: State, described: State, path: Path) -> Path:
    """Write weights as `torch.save` writes a dictionary of tensors, one tensor at a time.

    Args:
        weights: Asked for each tensor once, in order.
        described: The same without numbers.
        path: The file; it is there only when it is whole.

    Raises:
        WeightsError: A tensor differs from its description, or has a type that is not written.
    """
    description = _description(described)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.partial")
    try:
        with draft.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
            small = {"data.pkl": description, "byteorder": sys.byteorder.encode(), "version": b"3\n"}
            for name, data in small.items():
                archive.writestr(_entry(name, len(data), file.tell()), data)
            for key, (name, like) in enumerate(described.items()):
                value = weights[name]
                if value.shape != like.shape or value.dtype != like.dtype:
                    raise WeightsError(
                        f"weight {name!r} turned out as {tuple(value.shape)} {value.dtype}, not as described"
                    )
                size = value.numel() * value.element_size()
                with archive.open(_entry(f"data/{key}", size, file.tell()), "w") as entry:
                    entry.write(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
                del value  # before the next one is made
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    draft.replace(path)
    return path
