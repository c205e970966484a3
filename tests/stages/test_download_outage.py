"""A server that fails for a while, asked by the real download: nothing is lost, and no byte differs."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from infra.cluster import InlineCluster
from infra.storage import Store
from stages import download_watch
from stages.manifest import Manifest, ManifestError, verify
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.workspace import read_table

ROWS, PER_PART = 600, 100


def jpeg() -> bytes:
    out = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


class Flaky(BaseHTTPRequestHandler):
    """Answers for the parts that come first, then fails as many requests as it is told to, and answers again.

    The first picture of a later part begins the outage, because parts differ in size, and a few failures
    at the end of one are no jump.
    """

    picture, asked, fails, failed, begun = jpeg(), 0, 0, 0, False
    early: frozenset[str] = frozenset()
    lock = threading.Lock()

    def do_GET(self) -> None:
        if self.path.startswith("/robots"):
            return self.answer(404)
        with self.lock:
            cls = type(self)
            cls.asked += 1
            cls.begun = cls.begun or self.path not in cls.early
            bad = cls.begun and cls.failed < cls.fails
            cls.failed += bad
        return self.answer(503 if bad else 200)

    def answer(self, status: int) -> None:
        body = self.picture if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Web:
    def __init__(self) -> None:
        self.handler = type("Handler", (Flaky,), {})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_address[1]}"

    def fail(self, requests: int) -> None:
        for name, value in {"asked": 0, "failed": 0, "begun": False, "fails": requests}.items():
            setattr(self.handler, name, value)

    def spare(self, store: Store, listing: Manifest, parts: int) -> None:
        """Answer for the first parts of a listing in any case, unless an outage has begun."""
        tables = [read_table(store, listing, part, "rows", ["url"]) for part in listing.parts[:parts]]
        urls = [url for table in tables for url in table["url"].to_pylist()]
        self.handler.early = frozenset(urlsplit(url).path for url in urls)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    found = Web()
    yield found
    found.server.shutdown()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_watch, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(download_watch, "LONGEST_SECONDS", 0.1)


def download(folder: Path, web: Web, patience: float = 60.0) -> tuple[Store, Manifest]:
    store = Store(str(folder / "store"))
    file = folder.parent / "list.csv"
    file.write_text("url,text\n" + "".join(f"http://{web.host}/{n}.jpg,picture {n}\n" for n in range(ROWS)))
    columns = {"url": "url", "caption": "text"}
    listed = {"source": "own", "paths": [str(file)], "columns": columns, "rows_per_part": PER_PART}
    at = Ref(name="listing/own", version="v1")
    spec = StageSpec(stage="list_urls", artifact=at, parameters=listed)
    web.spare(store, materialize(spec, store, InlineCluster(), progress=False), parts=4)
    fetch = {"image_size": 32, "retries": 0, "allow_hosts": [web.host], "threads": 8}
    spec = StageSpec(
        stage="download", artifact=Ref(name="pool/own", version="v1"), parameters=fetch, inputs=(at,),
        placement={"drift_patience_seconds": patience},
    )  # fmt: skip
    return store, materialize(spec, store, InlineCluster())


@pytest.mark.slow
def test_an_outage_leaves_no_trace_in_the_pool(tmp_path: Path, web: Web) -> None:
    web.fail(0)
    _, calm = download(tmp_path / "calm", web)
    web.fail(150)
    store, made = download(tmp_path / "rough", web)
    assert made.totals["outcomes"] == {"fetched": ROWS} and not verify(store, made)
    assert made.digest == calm.digest
    live = store.read(made.ref.key("reports-live/hosts.html")).decode()
    assert "server error" in live and "fetched again" in live
    assert store.keys("canary") == []


def test_an_outage_that_does_not_end_stops_the_stage_and_is_gone_on_from(tmp_path: Path, web: Web) -> None:
    web.fail(10_000)
    told = r"from part 0+\d on, server_error is \d+\.\d % of \d+ urls, [01]\.\d % before"
    with pytest.raises(ManifestError, match=told):
        download(tmp_path / "rough", web, patience=0.3)
    assert web.handler.asked < len(web.handler.early) + 2 * PER_PART, "the list is not burnt"  # type: ignore[attr-defined]
    store = Store(str(tmp_path / "rough" / "store"))
    done = json.loads(store.read("pool/own/v1/measures/watch.json"))["seen"]["rows"]
    assert done >= 200 and not store.exists("pool/own/v1/manifest.json")
    web.fail(0)
    store, made = download(tmp_path / "rough", web)
    assert made.totals["outcomes"] == {"fetched": ROWS} and not verify(store, made)
    assert web.handler.asked == ROWS - done, "only what was open"  # type: ignore[attr-defined]
