"""A later pass of a real download: what failed in a way that can pass is asked for again, and nothing else."""

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines.changes import rerun_steps
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import OwnData
from stages.manifest import Manifest, load, verify
from stages.materialize import materialize
from stages.ref import Ref
from stages.tars import read_tar
from stages.workspace import read_file, read_table

ROWS = 120


def jpeg() -> bytes:
    out = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


class Web(BaseHTTPRequestHandler):
    """Every tenth picture is gone for good, every fifth of the others fails for as long as `ill` says."""

    picture = jpeg()
    ill: ClassVar[bool] = True
    asked: ClassVar[Counter[int]] = Counter()

    def do_GET(self) -> None:
        name = self.path.strip("/").removesuffix(".jpg")
        status = 404
        if name.isdecimal():
            number = int(name)
            self.asked[number] += 1
            status = 404 if number % 10 == 0 else 503 if number % 5 == 0 and self.ill else 200
        body = self.picture if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnData]:
    """Serve a list; return it as the data of the photos recipe."""
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setattr(Web, "ill", True)
    monkeypatch.setattr(Web, "asked", Counter())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_address[1]}"
    file = tmp_path / "list.csv"
    file.write_text("url,text\n" + "".join(f"http://{host}/{n}.jpg,picture number {n}\n" for n in range(1, ROWS + 1)))
    yield OwnData(urls=(str(file),), allow_hosts=(host,))
    server.shutdown()


def first_pass(own: OwnData) -> tuple[Store, Manifest]:
    store = Store(settings().store_root)
    steps = {step.artifact: step for step in steps_of(FlowName.DATA, RecipeName.PHOTOS, "", own)}
    made = [materialize(steps[name].spec, store, InlineCluster()) for name in ("listing/own", "pool/own")]
    return store, made[-1]


def again(store: Store, retry: str = "transient") -> Manifest:
    (step,) = rerun_steps("download", RecipeName.PHOTOS, [], [], retry=[retry])
    return materialize(step.spec, store, InlineCluster())


def outcomes(store: Store, pool: Manifest) -> dict[bytes, tuple[str, int]]:
    found = {}
    for part in pool.parts:
        table = read_table(store, pool, part, "outcomes", ["uid", "outcome", "attempt"]).to_pylist()
        found.update({row["uid"]: (row["outcome"], row["attempt"]) for row in table})
    return found


def pictures(store: Store, pool: Manifest) -> dict[str, bytes]:
    tars = [read_tar(read_file(store, pool, part.files["pictures"])) for part in pool.parts]
    return {uid: members["jpg"] for each in tars for uid, members in each}


def test_what_came_back_is_fetched_and_nothing_else_is_asked_for(own: OwnData) -> None:
    store, first = first_pass(own)
    assert first.totals["outcomes"] == {"fetched": 96, "not_found": 12, "server_error": 12}
    Web.ill = False
    Web.asked.clear()
    second = again(store)
    assert str(second.ref) == "pool/own@photos-2"
    assert second.totals["outcomes"] == {"fetched": 108, "not_found": 12}
    assert sorted(Web.asked) == list(range(5, ROWS, 10)), "404 is final, and what was fetched is here"
    assert not verify(store, second) and not verify(store, load(store, Ref(name="pool/own", version="photos")))
    before, after = outcomes(store, first), outcomes(store, second)
    assert {uid for uid in after if after[uid] != before[uid]} == {
        u for u in before if before[u][0] == "server_error"
    }
    assert Counter(after.values()) == {("fetched", 1): 96, ("fetched", 2): 12, ("not_found", 1): 12}
    kept, now = pictures(store, first), pictures(store, second)
    assert len(now) == 108 and all(now[uid] == data for uid, data in kept.items()), "carried over byte for byte"


def test_the_report_shows_what_each_pass_settled(own: OwnData) -> None:
    store, _ = first_pass(own)
    Web.ill = False
    second = again(store)
    page = store.read(second.key(second.reports["download_report"])).decode()
    assert "<h2>Passes</h2>" in page and "108 of 120 listed rows fetched" in page
    assert "--retry transient" not in page, "nothing is left that may come back"
    with pytest.raises(ValueError, match="nothing to ask for again"):
        rerun_steps("download", RecipeName.PHOTOS, [], [], retry=["transient"])


def test_what_does_not_come_back_may_be_asked_for_a_third_time(own: OwnData) -> None:
    store, first = first_pass(own)
    second = again(store)
    assert second.totals["outcomes"] == first.totals["outcomes"]
    assert {attempt for outcome, attempt in outcomes(store, second).values() if outcome == "server_error"} == {2}
    Web.ill = False
    third = again(store)
    assert str(third.ref) == "pool/own@photos-3" and third.totals["outcomes"]["fetched"] == 108
    assert {attempt for _, attempt in outcomes(store, third).values()} == {1, 3}


def test_a_pass_that_was_made_is_found_again(own: OwnData) -> None:
    store, _ = first_pass(own)
    Web.ill = False
    (step,) = rerun_steps("download", RecipeName.PHOTOS, [], [], retry=["server_error"])
    made = materialize(step.spec, store, InlineCluster())
    Web.asked.clear()
    assert materialize(step.spec, store, InlineCluster()).digest == made.digest and not Web.asked


def test_outcomes_that_are_not_named_stay(own: OwnData) -> None:
    store, _ = first_pass(own)
    Web.ill = False
    with pytest.raises(ValueError, match="no row of pool/own@photos ended as timeout"):
        rerun_steps("download", RecipeName.PHOTOS, [], [], retry=["timeout"])
    assert again(store, "server_error").totals["outcomes"]["fetched"] == 108
