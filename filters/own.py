"""Filters that a user writes: Python files in a folder, loaded by path, given bits of a reserved range.

A file holds one or more classes that derive from `filters.base.Filter` and have a `reason` of their own.
Bits are given in the order in which reasons were first seen, and are kept in `bits.json` in that folder,
so that masks written earlier keep their meaning; a reason that is gone keeps its bit.
"""

import hashlib
import importlib.util
import inspect
import json
import os
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from filters.base import Filter
from filters.bits import BITS, OWN_BITS
from filters.catalogue import FILTERS

REGISTRY = "bits.json"


class OwnFilters(BaseModel):
    """A folder of filters and the digest of what is in it: other code is another policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    digest: str

    @classmethod
    def of(cls, folder: str) -> "OwnFilters":
        """Return a folder with its digest as it is now; reasons that are new get their bits.

        Raises:
            ValueError: The folder or a file in it cannot be used.
        """
        path = os.path.abspath(folder)
        own = cls(folder=path, digest=_digest(path))
        _register(Path(path), list(load(own)))
        return own


_LOADED: dict[tuple[str, str], dict[str, type[Filter]]] = {}


def load(own: OwnFilters) -> dict[str, type[Filter]]:
    """Return the filters of a folder by reason, and make their bits known.

    Raises:
        ValueError: The folder changed since the policy was made, or a file in it cannot be used.
    """
    if (found := _digest(own.folder)) != own.digest:
        raise ValueError(
            f"filters in {own.folder} changed since this policy was made ({own.digest[:12]}, now {found[:12]}); "
            "make the policy anew"
        )
    key = (own.folder, own.digest)
    if key not in _LOADED:
        filters: dict[str, type[Filter]] = {}
        for path in _files(own.folder):
            for each in _filters_in(path):
                if each.reason in filters or each.reason in FILTERS:
                    raise ValueError(f"{path}: a filter with reason {each.reason!r} exists already; choose another")
                filters[each.reason] = each
        _LOADED[key] = filters
    _announce(_registry(Path(own.folder)))
    return _LOADED[key]


def _files(folder: str) -> list[Path]:
    if not os.path.isdir(folder):
        raise ValueError(f"filters_folder {folder} is no folder; name one that holds Python files")
    files = sorted(path for path in Path(folder).glob("*.py") if not path.name.startswith("_"))
    if not files:
        raise ValueError(f"filters_folder {folder} holds no Python file; a filter is a class in one")
    return files


def _digest(folder: str) -> str:
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _filters_in(path: Path) -> list[type[Filter]]:
    name = f"internvl_own_filters_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic resolves annotations there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    found = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, Filter) and each.__module__ == name
    ]
    if not found:
        raise ValueError(f"{path} holds no filter; derive a class from filters.base.Filter")
    for each in found:
        missing = [field for field in ("reason", "reads") if not isinstance(getattr(each, field, None), (str, tuple))]
        if missing or inspect.isabstract(each):
            raise ValueError(f"{path}: {each.__name__} lacks {', '.join(missing) or 'its method keep'}")
        try:
            each()
        except ValueError as error:
            raise ValueError(f"{path}: {each.__name__} needs a default for each field: {error}") from error
    return found


def _registry(folder: Path) -> dict[str, int]:
    path = folder / REGISTRY
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
        bits = {str(reason): int(bit) for reason, bit in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no table of reasons and bits: {error}; put back the last good one") from error
    if len(set(bits.values())) != len(bits) or any(bit not in OWN_BITS for bit in bits.values()):
        raise ValueError(f"{path}: bits must differ and lie in {OWN_BITS.start} to {OWN_BITS.stop - 1}")
    return bits


def _register(folder: Path, reasons: list[str]) -> None:
    """Give new reasons the next free bits, and keep them in the folder."""
    bits = _registry(folder)
    for reason in reasons:
        if reason in bits:
            continue
        free = [bit for bit in OWN_BITS if bit not in bits.values()]
        if not free:
            raise ValueError(f"{folder / REGISTRY}: all {len(OWN_BITS)} bits are given; start another folder")
        bits[reason] = free[0]
    if bits != _registry(folder):
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(json.dumps(bits, indent=1, sort_keys=True) + "\n")
        os.replace(file.name, folder / REGISTRY)
    _announce(bits)


def _announce(bits: dict[str, int]) -> None:
    """Make the bits known to `filters.bits`; one process knows the reasons of one folder.

    Raises:
        ValueError: Another folder gave a bit of this one to another reason.
    """
    taken = {bit: reason for reason, bit in BITS.items()}
    for reason, bit in bits.items():
        if BITS.get(reason, bit) != bit or taken.get(bit, reason) != reason:
            raise ValueError(
                f"bit {bit} means {taken.get(bit, reason)!r} already; use one folder of filters at a time"
            )
        BITS[reason] = bit
