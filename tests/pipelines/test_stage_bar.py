"""The bar of a stage that a command waits for: how much is done, how fast, how long the rest takes."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.storage import Store
from pipelines import following
from pipelines.following import followed
from stages.ref import Ref


def test_it_tells_rate_and_time_left_of_what_the_stage_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, float, str]] = []

    class Told:
        def say(self, *words: object) -> None:
            told.append(words)  # type: ignore[arg-type]

    @contextmanager
    def bar(name: str) -> Iterator[Told]:
        assert name == "benchmarks/contrastive@t"
        yield Told()

    monkeypatch.setattr(following, "bar", bar)
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.01)
    artifact = Ref(name="benchmarks/contrastive", version="t")
    record = {"done": 30, "total": 100, "unit": "iterations", "note": "camvid", "rate": 2.0, "at": time.time()}
    with followed(store, artifact):
        store.write(artifact.key("progress.json"), json.dumps(record).encode())
        stop = time.monotonic() + 30
        while not told and time.monotonic() < stop:
            time.sleep(0.01)
    assert told == [(30, 100, "30 of 100 iterations, 2 iterations/s, 35 s left, camvid")]
