"""The filtering network is a function of pictures, captions and parameters: not of the run, nor of addresses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from scored_pool import Row, commit, picture

from infra.cluster import InlineCluster
from infra.storage import Store
from stages.filtering_network import Parameters, run
from stages.manifest import Manifest
from stages.ref import Ref
from stages.workspace import Output, Workspace

SMALL = Parameters(
    image_size=16,
    embed_dim=8,
    hidden_size=32,
    num_hidden_layers=1,
    context_length=16,
    held_out=16,
    global_batch_size=8,
    steps=4,
)


def trained(folder: Path, port: int, seed: int = 0) -> Manifest:
    """Train on pictures of a web at this port."""
    store = Store(str(folder))
    rows = [
        Row(f"http://127.0.0.1:{port}/{number}.jpg", f"Picture {number} of a few.", picture(number))
        for number in range(40)
    ]
    listing, pool = commit(store, [rows[:25], rows[25:]])
    output = Output(store, Ref(name="checkpoints/filtering_network", version="v1"), "filtering_network", {})
    here = Workspace(store, InlineCluster(), folder, {str(each.ref.name): each for each in (listing, pool)})
    return run(SMALL.model_copy(update={"seed": seed}), output, here)


def weights(manifest: Manifest) -> str:
    return manifest.parts[0].files["weights"].sha256


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    script = (
        "import sys; from pathlib import Path; from test_filtering_network import trained, weights;"
        "print(weights(trained(Path(sys.argv[1]), 8000)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "other")],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == weights(trained(tmp_path / "mine", 8000))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return trained(tmp_path_factory.mktemp("first"), 8000)


def test_the_same_pictures_at_another_address_give_the_same_bytes(first: Manifest, tmp_path: Path) -> None:
    moved = trained(tmp_path, 9111)
    assert moved.parts[0].files["history"] == first.parts[0].files["history"]
    assert weights(moved) == weights(first)


def test_another_seed_gives_another_network(first: Manifest, tmp_path: Path) -> None:
    assert weights(trained(tmp_path, 8000, seed=1)) != weights(first)
