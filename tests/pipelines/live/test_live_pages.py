"""The live pages as a browser gets them: true, safe, readable without colour, and drawn anew by themselves."""

import base64
import hashlib
import html.parser
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from live_world import ask, chain, make, seen, tell

from infra.storage import Store
from pipelines.live import pages
from pipelines.live.shell import QUICK, SLOW
from pipelines.live.states import QUIET_SECONDS
from stages.catalogue import promote
from stages.failures import note_failure
from stages.manifest import Ledger, load
from stages.ref import Ref
from stages.workspace import Output

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">'
DRAWN: dict[str, Callable[[Any, dict[str, str], Store], bytes]] = {
    "overview": lambda look, query, store: pages.overview(look, query),
    "lineage": lambda look, query, store: pages.lineage_page(look, query),
    "grid": lambda look, query, store: pages.grid(look, query),
    "checkpoints": pages.checkpoints,
}


class Found(html.parser.HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}


def words(body: bytes) -> str:
    """Return what a person reads, on one line."""
    text = body.decode().partition("<main>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


@pytest.mark.parametrize("name", DRAWN)
def test_every_page_carries_the_policy_that_lets_in_its_own_style_alone(store: Store, name: str) -> None:
    chain(store)
    body = DRAWN[name](seen(store, []), {}, store).decode()
    style = re.search(r"<style>(.*?)</style>", body, re.S)
    assert style is not None
    allowed = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{allowed}'" in body.replace("&#39;", "'")
    assert "<script" not in body and "style=" not in body.replace("<style>", "") and "http://" not in body


@pytest.mark.parametrize("name", DRAWN)
def test_a_page_is_drawn_anew_quickly_while_something_runs_and_never_when_told_so(store: Store, name: str) -> None:
    ref = ask(store, "download", "pool/coyo@v1")
    tell(store, ref, 1, 4)

    def refresh(running: list[str], **query: str) -> list[str]:
        body = DRAWN[name](seen(store, running), query, store).decode()
        return re.findall(r'http-equiv="refresh" content="(\d+)"', body)

    assert refresh([str(ref)]) == [str(QUICK)] and refresh([]) == [str(SLOW)]
    assert refresh([str(ref)], refresh="0") == []


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("query", [{"of": EVIL, "version": EVIL}, {"version": "nowhere"}, {"of": "pool/coyo@v1"}])
def test_nothing_from_an_address_or_a_log_comes_alive(store: Store, name: str, query: dict[str, str]) -> None:
    chain(store)
    ref = ask(store, "score", "signals/other@v1", "pool/coyo@v1")
    tell(store, ref, 1, 4, note=EVIL)
    note_failure(store, ref, RuntimeError(EVIL))
    body = DRAWN[name](seen(store, [str(ref)] if "of" in query else []), query, store).decode()
    found = Found()
    found.feed(body)
    assert not found.tags & {"script", "img", "iframe"} and not any(name.startswith("on") for name in found.names)


def test_an_artifact_was_made_when_its_work_ended(store: Store) -> None:
    hour = {"started": time.time() - 3600, "seconds": 1800.0}
    store.write(make(store, "pool/wukong").ref.key("run.json"), json.dumps(hour).encode())
    assert "30 min 0 s ago" in words(pages.overview(seen(store), {}))


def test_the_overview_tells_how_far_how_fast_why_not_and_what_next(store: Store) -> None:
    chain(store)
    running, failed = ask(store, "download", "pool/wukong@v1"), ask(store, "score", "signals/wukong@v1")
    tell(store, running, 30, 120, rate=0.5)
    Output(store, failed, "score", {}).part("000000", "d", Ledger(listed=1, kept=1), {})
    note_failure(store, failed, RuntimeError("no space left on /data"))
    read = words(pages.overview(seen(store, [str(running)]), {}))
    assert "1 running 0 waiting 1 failed 0 stopped 6 finished" in read
    assert "30 of 120 parts, 30 parts/min, 3 min 0 s left" in read
    assert "× failed signals/wukong@v1 score no space left on /data" in read
    assert "1 finished parts are kept: put right what the message says" in read
    assert "does not answer" not in read and "hangs" not in read
    tell(store, running, 30, 120, at=time.time() - QUIET_SECONDS - 60)
    read = words(pages.overview(seen(store, [str(running)]), {}))
    assert "told nothing for 11 min" in read and " left" not in read.partition("Not finished")[0]
    assert "Ray cluster does not answer" in words(pages.overview(seen(store), {}))


def test_the_grid_counts_every_part_once_and_says_each_state_by_a_sign(store: Store) -> None:
    chain(store)
    make(store, "pool/laion", "v1", parts=3, quarantined=[{"part": "000002", "rows": 4, "reason": "killed"}])
    running, stopped = ask(store, "download", "pool/wukong@v1"), ask(store, "download", "pool/zero@v1")
    for ref in (running, stopped):
        Output(store, ref, "download", {}).part("000000", "d" * 64, Ledger(listed=1, kept=1), {})
        tell(store, ref, 1, 5)
    body = pages.grid(seen(store, [str(running)]), {"version": "v1"})
    read = words(body)
    assert "16 ✓ done 4 ▸ running 4 · missing 1 Q quarantined 0 × failed" in read
    assert "wukong 1 of 5 done, 4 running, stage running" in read
    assert "zero 1 of 5 done, 4 missing, stage stopped" in read
    assert 'title="000002: 1 quarantined; 1 of 4 rows failed"' in body.decode()
    assert read.index(" listing ") < read.index(" pool ") < read.index(" checkpoints ") < read.index(" evaluations ")


def test_too_many_parts_to_list_are_counted_by_progress(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = ask(store, "download", "pool/wukong@v1")
    Output(store, ref, "download", {}).part("000000", "d" * 64, Ledger(listed=1, kept=1), {})
    tell(store, ref, 700_000, 1_000_000)
    assert "700,000 of 1,000,000 done, 300,000 running" in words(pages.grid(seen(store, [str(ref)]), {}))
    assert "700,000 finished parts are kept" in words(pages.overview(seen(store, []), {}))


def test_progress_in_steps_says_nothing_about_parts(store: Store) -> None:
    ref = ask(store, "contrastive", "checkpoints/contrastive@v1")
    tell(store, ref, 10, 4000, "steps")
    (begun,) = seen(store, [str(ref)]).view.begun
    assert pages.begun_cells(begun, seen(store, [str(ref)]).doing[ref]) == ()


def test_the_catalogue_shows_promoted_names_and_what_still_trains(store: Store) -> None:
    chain(store)
    promote(store, Ref(name="checkpoints/contrastive", version="v1"), "promoted")
    store.write("checkpoints/contrastive/v2/state/a-b/000003-step-00000040/state.json", b"{}")
    read = words(pages.checkpoints(seen(store, []), {}, store))
    assert "checkpoints/contrastive@v1 = @promoted" in read
    assert "checkpoints/contrastive@v2 lineage 40" in read and "training; state of" in read


def test_more_artifacts_than_can_be_drawn_are_told_in_words(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(store)
    monkeypatch.setattr(pages, "MOST_DRAWN", 3)
    body = pages.lineage_page(seen(store, []), {})
    assert b"<svg" not in body and "too many for a drawing" in words(body) and "shards/clean@v1" in words(body)
    assert b"<svg" not in pages.lineage_page(seen(Store(str(store.root) + "-empty"), []), {})


def test_an_artifact_s_page_leads_to_tensorboard_where_its_files_lie(store: Store, tmp_path: Any) -> None:
    chain(store)
    manifest = load(store, Ref(name="checkpoints/contrastive", version="v1"))
    assert b"tensorboard" not in pages.artifact(manifest, {}, None)
    body = pages.artifact(manifest, {}, tmp_path)
    assert f"tensorboard --host 127.0.0.1 --logdir {tmp_path}" in body.decode()
    assert b'href="/lineage?of=checkpoints/contrastive@v1"' in body
