"""What a run can do without does not end it."""

from pathlib import Path
from typing import Any

import pytest
import toy_run

from infra.storage import StorageError, Store, StoreUnavailable
from stages.aside import store_aside


@pytest.mark.parametrize("error", [StorageError, StoreUnavailable, OSError])
def test_notes_that_the_store_does_not_take_are_said_and_cost_no_run(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    real = Store.write

    def full(self: Store, key: str, data: Any) -> None:
        if key.endswith("progress.json"):
            raise error("no space left")
        real(self, key, data)

    monkeypatch.setattr(Store, "write", full)
    assert toy_run.make(store, tmp_path).totals["steps"] == toy_run.STEPS
    assert f"{toy_run.REF.key('progress.json')} is not written: no space left" in caplog.text
    store_aside(store, "a/b", b"c")
    assert store.read("a/b") == b"c"
