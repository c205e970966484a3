"""An outage pauses a download: nothing of it is counted as failed, and what is fetched is the same as without it."""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pool_by_contract import Row, list_rows, pool_output, publish_part

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages.download_report import report
from stages.download_watch import FIRST_SECONDS, MAX_SUSPECT, SUSPECT, CarefulOutput, Watched, watched
from stages.manifest import Manifest, ManifestError, Part
from stages.workspace import Output, Placement, Workspace, read_table

PARTS, PER_PART = 8, 100


class Web:
    """What the web answers while time goes by; workers on this machine see the same one."""

    def __init__(self) -> None:
        self.outage: Callable[[str], str | None] = lambda _: None
        self.asked: list[str] = []
        self.slept = 0.0

    def answer(self, url: str) -> str:
        self.asked.append(url)
        return self.outage(url) or ("not_found" if url.endswith(("3", "7")) else "fetched")


def fetch_part(item: tuple[str, str, Part], listing: Manifest, output: Output, web: Web) -> Part:
    key, digest, source = item
    table = read_table(output.store, listing, source, "rows").to_pylist()
    rows = [Row(row["url"], web.answer(row["url"]), row["caption"]) for row in table]
    return publish_part(output, key, digest, rows)


class Run:
    def __init__(self, store: Store, tmp_path: Path, web: Web, patience: float = 1800.0) -> None:
        self.store, self.web, self.told = store, web, list[str]()
        urls = [[Row(f"http://h{n}.example/{p}-{n}") for n in range(PER_PART)] for p in range(PARTS)]
        self.listing = list_rows(store, urls)
        self.output = pool_output(store)
        self.here = Workspace(
            store, InlineCluster(), tmp_path, {"listing/own": self.listing},
            Placement(drift_patience_seconds=patience), lambda *a: self.told.append(str(a[3])),
        )  # fmt: skip
        self.watch = Watched(self.here, self.output, self.sleep, lambda: self.web.slept)

    def sleep(self, seconds: float) -> None:
        self.web.slept += seconds

    def make(self) -> list[Part]:
        work = partial(fetch_part, listing=self.listing, output=self.output, web=self.web)
        items = [(p.key, p.input_digest, (p.key, p.input_digest, p)) for p in self.listing.parts]
        here = Workspace(
            self.store, self.watch, self.here.scratch, self.here.inputs, self.here.placement, self.watch.progress  # type: ignore[arg-type]
        )  # fmt: skip
        return here.map_parts(self.output, work, items)

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.read(self.output.ref.key("measures/watch.json")))["seen"]
        return found


def part_of(url: str) -> int:
    return int(url.split("/")[3].partition("-")[0])


def calm(tmp_path: Path) -> list[Part]:
    return Run(Store(str(tmp_path / "calm")), tmp_path, Web()).make()


def test_without_an_outage_parts_pass_through(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path, Web())
    parts = run.make()
    assert len(parts) == PARTS and len(run.web.asked) == PARTS * PER_PART and run.web.slept == 0
    assert run.facts()["pauses"] == [] and run.facts()["rows"] == PARTS * PER_PART
    assert run.facts()["kept"] == sum(part.ledger.kept for part in parts) == 640


@pytest.mark.parametrize("kind", ["dns", "connect", "server_error", "not_image"])
def test_an_outage_is_waited_out_and_leaves_no_trace(store: Store, tmp_path: Path, kind: str) -> None:
    run = Run(store, tmp_path, Web())
    # From the fourth part on nothing answers, until half a minute has been slept.
    late = set(range(3, PARTS))

    def down(url: str) -> str | None:
        return kind if run.web.slept < 30 and (run.web.slept or part_of(url) in late) else None

    run.web.outage = down
    parts = run.make()
    assert parts == calm(tmp_path), "the same parts as without an outage"
    assert all(SUSPECT not in part.facts for part in parts)
    (pause,) = run.facts()["pauses"]
    assert pause["part"] == "000003" and pause["outcome"] == kind and pause["seconds"] == 35
    assert pause["before"] < 0.02 and pause["now"] == 1.0
    # One part was fetched twice, and a canary of 8 urls that worked and 8 that failed asked three times.
    assert len(run.web.asked) == (PARTS + 1) * PER_PART + 3 * 16
    assert any(note.startswith(f"paused, {kind} is 100.0 % of 100 urls") for note in run.told)
    assert store.keys("canary") == []


def test_an_outage_from_the_first_url_on(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path, Web())
    run.web.outage = lambda url: "dns" if run.web.slept < 100 else None
    assert run.make() == calm(tmp_path)
    assert run.facts()["pauses"][0]["before"] is None


def test_patience_ends_with_what_jumped_and_what_to_do(store: Store, tmp_path: Path) -> None:
    web = Web()
    run = Run(store, tmp_path, web, patience=60)
    web.outage = lambda url: "dns" if web.slept or part_of(url) >= 4 else None
    with pytest.raises(ManifestError) as stop:
        run.make()
    text = str(stop.value)
    assert "pool/own@v1: from part 000004 on, dns is 100.0 % of 100 urls, 0." in text
    assert "60 seconds" in text and "Check the resolver of the workers" in text and "same command" in text
    assert web.slept == 60, "it waits no longer than it is told to"
    done = [run.output.done(p.key, p.input_digest) for p in run.listing.parts]
    assert [part is not None for part in done] == [True] * 4 + [False] * 4, "what is done stays, the rest is open"
    assert not store.exists(run.output.ref.key("manifest.json"))

    # The same command goes on: the web is back, and only what was open is fetched.
    web.outage, web.asked, web.slept = lambda _: None, [], 0.0
    again = Run(store, tmp_path, web)
    assert again.make() == calm(tmp_path) and len(web.asked) == 4 * PER_PART
    assert again.facts()["rows"] == PARTS * PER_PART and len(again.facts()["pauses"]) == 1


def test_what_is_made_again_by_force_is_counted_once(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        run = Run(store, tmp_path, Web())
        run.make()
        assert run.facts()["rows"] == PARTS * PER_PART
        store.remove(run.output.ref.key("markers"))


def test_other_work_under_the_same_name_remembers_nothing(store: Store, tmp_path: Path) -> None:
    Run(store, tmp_path, Web()).make()
    other = Watched(Run(store, tmp_path, Web()).here, pool_output(store, image_size=64))
    assert other.seen.rows == 0


def test_a_web_that_really_is_so_is_believed_after_two_tries(store: Store, tmp_path: Path) -> None:
    """Half of the hosts are gone for good; those of a canary that worked still do."""
    run = Run(store, tmp_path, Web())
    run.web.outage = lambda url: "dns" if part_of(url) >= 4 and int(url[-1]) % 2 == 0 else None
    parts = run.make()
    assert [part.facts["outcomes"].get("dns", 0) for part in parts] == [0] * 4 + [50] * 4
    assert len(run.facts()["pauses"]) == MAX_SUSPECT, "it is believed once, and for the parts after it too"
    # Each time a canary of 8 that worked in the part, 8 that worked in the part before it, and 8 that failed.
    assert len(run.web.asked) == (PARTS + MAX_SUSPECT) * PER_PART + MAX_SUSPECT * 24


def test_pictures_that_are_here_are_never_waited_for(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path, Web())
    run.watch = Watched(run.here, pool_output(store, parameters={"images": "/pictures"}), run.sleep, lambda: 0.0)
    run.web.outage = lambda url: "not_found" if part_of(url) >= 4 else None
    assert len(run.make()) == PARTS and run.web.slept == 0


def test_back_off_doubles(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path, Web())
    run.web.outage = lambda url: "connect" if run.web.slept < 150 else None
    run.make()
    waits = [note.rpartition("asks again in ")[2] for note in run.told if "paused" in note]
    assert waits == [f"{FIRST_SECONDS * 2**n:.0f} s" for n in range(5)]


def test_a_suspect_part_publishes_nothing(store: Store) -> None:
    output = pool_output(store)
    careful = CarefulOutput(output.store, output.ref, output.stage, output.identity)
    rows = [Row(f"http://h/{n}", "dns") for n in range(60)]
    part = publish_part(careful, "000000", "d" * 20, rows)
    assert part.files == {} and part.facts[SUSPECT]["outcome"] == "dns" and len(part.facts["ended"]["dns"]) == 8
    assert output.done("000000", "d" * 20) is None and store.keys(output.ref.key("parts")) == []
    lenient = CarefulOutput(output.store, output.ref, output.stage, output.identity, lenient=True)
    assert publish_part(lenient, "000000", "d" * 20, rows) == output.done("000000", "d" * 20)


def test_an_error_of_the_work_is_not_swallowed(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path, Web())

    def broken(url: str) -> str | None:
        raise RuntimeError("no disk")

    run.web.outage = broken
    with pytest.raises(RuntimeError, match="no disk"):
        run.make()


class Late(InlineCluster):
    """Hands results back two at a time and in the wrong order, as workers do."""

    def map(self, work: Callable[[Any], Any], items: Iterable[Any], **_: Any) -> Iterator[Any]:
        todo = iter(items)
        while batch := [item for item in (next(todo, None), next(todo, None)) if item is not None]:
            yield from reversed([work(item) for item in batch])


def test_parts_that_are_out_come_back_before_a_pause(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path, Web())
    run.watch._inner = Late()
    run.web.outage = lambda url: "dns" if run.web.slept < 5 and part_of(url) >= 4 else None
    assert run.make() == calm(tmp_path)
    assert len(run.facts()["pauses"]) == 1, "two suspects, one pause"
    assert len(run.web.asked) == (PARTS + 2) * PER_PART + 16


def test_the_note_tells_rate_remaining_time_and_share(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path, Web())
    assert run.watch.note(0, 8) == ""
    run.watch._made, run.watch.seen.urls, run.watch.seen.rows, run.watch.seen.kept = 2, 5000, 5000, 4000
    run.web.slept = 100.0
    assert run.watch.note(2, 8) == "50 urls/s, 5 min left, 80.0 % fetched"
    assert run.watch.note(8, 8) == "50 urls/s, 80.0 % fetched"


def fetch_quietly(item: tuple[str, str, Part], listing: Manifest, output: Output) -> Part:
    key, digest, source = item
    table = read_table(output.store, listing, source, "rows").to_pylist()
    return publish_part(output, key, digest, [Row(row["url"], "fetched", row["caption"]) for row in table])


@pytest.mark.ray
def test_it_runs_on_workers(any_cluster: Cluster, store: Store, tmp_path: Path) -> None:
    listing = list_rows(store, [[Row(f"http://h/{p}-{n}") for n in range(30)] for p in range(4)])
    output = pool_output(store)
    notes: list[str] = []
    here = Workspace(store, any_cluster, tmp_path, {"listing/own": listing}, progress=lambda *a: notes.append(a[3]))
    items = [(p.key, p.input_digest, (p.key, p.input_digest, p)) for p in listing.parts]
    parts = watched(here, output).map_parts(output, partial(fetch_quietly, listing=listing, output=output), items)
    assert [part.key for part in parts] == [f"{n:06d}" for n in range(4)]
    assert "urls/s" in notes[-1] and notes[-1].endswith("100.0 % fetched")

    # Whoever made the parts, the manifest with its page is the same.
    alone = Store(str(tmp_path / "alone"))
    again = list_rows(alone, [[Row(f"http://h/{p}-{n}") for n in range(30)] for p in range(4)])
    rows = [[Row(f"http://h/{p}-{n}") for n in range(30)] for p in range(4)]
    one = pool_output(alone)
    made = [publish_part(one, p.key, p.input_digest, each) for p, each in zip(again.parts, rows, strict=True)]
    digests = []
    for where, its, listed, cluster in ((output, parts, listing, any_cluster), (one, made, again, InlineCluster())):
        told, pages = report(listed, its, {}, where, Workspace(where.store, cluster, tmp_path))
        digests.append(where.commit(its, totals=told, reports=pages).digest)
    assert digests[0] == digests[1]
