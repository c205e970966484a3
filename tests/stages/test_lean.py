"""Submodules are imported without what their package would pull in."""

import subprocess
import sys

import pytest

from stages.lean import lean_package, without

SCRIPT = """
import sys
from stages.lean import lean_package
lean_package("img2dataset")
from img2dataset.downloader import Downloader
from img2dataset.resizer import Resizer
heavy = [name for name in ("torch", "pandas", "img2dataset.main") if name in sys.modules]
assert not heavy, heavy
lean_package("img2dataset")
"""


def test_the_downloader_comes_without_torch() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)


def test_packages_that_stand_stay_and_absent_ones_are_named() -> None:
    before = sys.modules["pytest"]
    lean_package("pytest")
    assert sys.modules["pytest"] is before
    with pytest.raises(ModuleNotFoundError, match="no_such_package is not installed"):
        lean_package("no_such_package")


def test_a_package_is_left_out_only_while_others_are_imported() -> None:
    with without("no_such_package", Thing=7):
        from no_such_package import Thing  # type: ignore[import-not-found]
    assert Thing == 7 and "no_such_package" not in sys.modules
    with without("pytest", raises=None):
        assert sys.modules["pytest"].raises is pytest.raises
