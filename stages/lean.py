"""Import one module of a large package without all that the package itself would import."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def lean_package(name: str) -> None:
    """Let submodules of a package be imported without running its `__init__`.

    The packages that we build upon import their command lines and servers at the top (Spark, wandb,
    flask, torch): five seconds per worker process for what a stage never calls. A package that
    is already imported stays as it is.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"package {name} is not installed; make setup installs it", name=name)
    module = ModuleType(name)
    module.__path__ = list(spec.submodule_search_locations)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__spec__.submodule_search_locations = module.__path__
    sys.modules[name] = module


@contextmanager
def without(name: str, **names: Any) -> Iterator[None]:
    """Stand in for a package while modules are imported that name it at the top and never call it here.

    Args:
        name: The package to leave out; one that is already imported is left as it is.
        names: What the modules import from it.
    """
    if name in sys.modules:
        yield
        return
    stub = ModuleType(name)
    vars(stub).update(names)
    sys.modules[name] = stub
    try:
        yield
    finally:
        del sys.modules[name]
