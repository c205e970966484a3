"""Rate and remaining time: of the work of now, without what stood before and without starting up."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from infra.storage import Store
from stages.pace import Pace, duration, rate_words
from stages.ref import Ref
from stages.workspace import RATE_RECORDS, Progress

REF = Ref(name="pool/coyo", version="v1")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test moves."""
    hands = SimpleNamespace(now=100.0)
    monkeypatch.setattr(
        "stages.workspace.time", SimpleNamespace(monotonic=lambda: hands.now, time=lambda: 5000.0 + hands.now)
    )
    return hands


def told(store: Store) -> Pace:
    record: dict[str, Any] = json.loads(store.read(REF.key("progress.json")))
    return Pace.of(record)


def test_the_rate_is_of_work_done_and_not_of_what_stood(store: Store, clock: SimpleNamespace) -> None:
    progress = Progress(store, REF)
    clock.now += 60  # starting up
    progress(300, 1000, "parts")
    assert told(store).rate is None and told(store).remaining_seconds is None
    clock.now += 10
    progress(320, 1000, "parts")
    assert told(store).rate == pytest.approx(2.0)
    assert told(store).remaining_seconds == pytest.approx(340.0)
    assert told(store).words() == "320 of 1,000 parts, 2 parts/s, 5 min 40 s left"
    assert told(store).at == pytest.approx(5170.0)


def test_waiting_before_the_first_step_is_no_work(store: Store, clock: SimpleNamespace) -> None:
    progress = Progress(store, REF)
    progress(0, 100, "steps", "waiting for 8 GPUs, 2 free")
    assert told(store).waiting and told(store).rate is None
    clock.now += 5000
    progress(1, 100, "steps", "loss 2.0")
    assert told(store).rate is None and not told(store).waiting
    clock.now += 4
    progress(3, 100, "steps", "loss 1.9")
    assert told(store).rate == pytest.approx(0.5)


def test_another_unit_begins_anew(store: Store, clock: SimpleNamespace) -> None:
    progress = Progress(store, REF)
    for done in (1, 2, 3):
        clock.now += 2
        progress(done, 3, "blocks")
    clock.now += 2
    progress(1, 9, "shards")
    assert told(store).rate is None
    clock.now += 8
    progress(2, 9, "shards")
    assert told(store).rate == pytest.approx(1 / 8)


def test_a_pace_of_long_ago_is_forgotten(store: Store, clock: SimpleNamespace) -> None:
    progress = Progress(store, REF)
    for done in range(1, RATE_RECORDS + 2):
        clock.now += 2
        progress(done, 1000, "parts")
    for done in range(RATE_RECORDS + 2, 2 * RATE_RECORDS + 2):
        clock.now += 20
        progress(done, 1000, "parts")
    assert told(store).rate == pytest.approx(1 / 20)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (90061, "1 d 1 h")],
)
def test_times_are_told_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_slow_rates_are_told_by_the_minute_or_hour() -> None:
    assert [rate_words(rate, "parts") for rate in (3.0, 0.5, 0.01)] == ["3 parts/s", "30 parts/min", "36 parts/h"]


def test_nothing_to_do_is_no_share_and_no_error() -> None:
    pace = Pace.of({"done": 0, "total": 0, "unit": "parts", "note": ""})
    assert (pace.share, pace.rate, pace.at, pace.words()) == (0.0, None, 0.0, "0 of 0 parts")
