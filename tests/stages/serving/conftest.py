"""A small chat model, exported, and a gateway in front of a program that stands in for an engine."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of the folder above

from exporting import make_chat
from gateways import Running, running
from serve_command import Command, serving

from infra.storage import Store
from stages.checkpoints import fetch
from stages.export_chat import write_chat
from stages.serving.served_model import ServedModel


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small chat model in our layout; it cuts up to four tiles."""
    folder = tmp_path_factory.mktemp("chat")
    store = Store(str(folder / "store"))
    _, _, manifest = make_chat(store, {"max_position_embeddings": 512}, max_dynamic_patch=4, use_thumbnail=True)
    return fetch(store, manifest, folder / "checkpoint")


@pytest.fixture(scope="session")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """Return the same model, exported."""
    folder = tmp_path_factory.mktemp("exported")
    write_chat(checkpoint, folder, "native", 64)
    return ServedModel("small", folder, "# Small\n\nMade for tests.", drawn_world=True)


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="internvl-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def served(model: ServedModel) -> Iterator[Running]:
    """Return one gateway for all tests of a file that leave it as it is."""
    with tempfile.TemporaryDirectory(prefix="internvl-test-") as folder, running(model, Path(folder)) as found:
        yield found


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Run `internvl serve` with a real engine, once for all tests."""
    with serving(tmp_path_factory.mktemp("serve")) as found:
        yield found
