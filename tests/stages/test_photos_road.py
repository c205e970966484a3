"""The photos recipe on real photographs with human captions: a folder, and a url list served on loopback."""

import tarfile
import threading
from pathlib import Path

import pytest

from infra.cluster import InlineCluster
from infra.storage import Store
from pipelines.graph import data_steps
from pipelines.recipes import OwnData, RecipeName, make
from stages.manifest import Manifest, load
from stages.materialize import materialize
from stages.ref import Ref
from stages.sources.web_server import make_server, write_list
from stages.tars import read_tar
from stages.workspace import read_file

TAR = Path(__file__).resolve().parents[3] / "shared/data/flickr8k-photos.tar"
PHOTOS = 100
DATA_STAGES = ("list_urls", "download", "filtering_network", "score", "filter", "write_shards")

pytestmark = pytest.mark.skipif(not TAR.is_file(), reason="../shared/data/flickr8k-photos.tar is not here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of a hundred real photographs, each with its captions beside it."""
    target = tmp_path_factory.mktemp("photos")
    with tarfile.open(TAR) as tar:
        tar.extractall(target, members=tar.getmembers()[: 3 * PHOTOS], filter="data")
    return target


def run(store: Store, own: OwnData, stages: tuple[str, ...] = DATA_STAGES) -> None:
    for step in data_steps(make(RecipeName.PHOTOS, own), "v1"):
        if step.spec.stage in stages:
            materialize(step.spec, store, InlineCluster())


def get(store: Store, name: str) -> Manifest:
    return load(store, Ref(name=name, version="v1"))


def test_most_human_captions_survive_both_policies(folder: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    run(store, OwnData(images=str(folder)))
    pool, clean = get(store, "pool/own").ledger, get(store, "verdicts/clean/own").ledger
    quality = get(store, "verdicts/caption_quality/own").ledger
    assert (pool.listed, pool.kept) == (PHOTOS, PHOTOS)
    assert clean.kept == PHOTOS
    assert quality.kept >= 0.95 * PHOTOS
    assert pool.listed == quality.kept + quality.rejected + clean.rejected + pool.failed
    shards = get(store, "shards/caption_quality")
    samples = [s for part in shards.parts for s in read_tar(read_file(store, shards, part.files["tar"]))]
    captions = {path.read_text().strip() for path in folder.glob("*.txt")}
    assert len(samples) == quality.kept and {members["txt"].decode() for _, members in samples} <= captions


def test_the_same_photographs_come_from_a_url_list(folder: Path, tmp_path: Path) -> None:
    server = make_server("127.0.0.1", 0, None, folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_address[1]}"
    listed = write_list(folder, f"http://{host}", tmp_path / "list.parquet")
    own = OwnData(urls=(str(tmp_path / "list.parquet"),), caption_column="caption", allow_hosts=(host,))
    store, local = Store(str(tmp_path / "store")), Store(str(tmp_path / "local"))
    try:
        run(store, own, ("list_urls", "download"))
    finally:
        server.shutdown()
        server.server_close()
    run(local, OwnData(images=str(folder)), ("list_urls", "download"))
    assert get(store, "pool/own").ledger.kept == listed == PHOTOS
    assert pictures(store) == pictures(local)


def pictures(store: Store) -> dict[str, bytes]:
    pool = get(store, "pool/own")
    samples = [s for part in pool.parts for s in read_tar(read_file(store, pool, part.files["pictures"]))]
    return {members["txt"].decode(): members["jpg"] for _, members in samples}
