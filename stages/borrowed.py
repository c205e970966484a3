"""Use a function of a package with some of the names that it looks up replaced, for us alone."""

from types import FunctionType
from typing import Any


def renamed(function: Any, **names: Any) -> Any:
    """Return a copy of a function that finds other things under some global names; the original stays.

    Raises:
        ImportError: Its module has no such name, so replacing it would change nothing.
    """
    if unknown := sorted(set(names) - set(function.__globals__)):
        raise ImportError(
            f"{function.__module__} has no {', '.join(unknown)}: this release of it is laid out differently; "
            "install the one in requirements.lock"
        )
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
