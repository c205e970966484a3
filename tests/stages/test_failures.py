"""The note that a failed stage leaves."""

from pathlib import Path

import pytest

from infra.storage import StorageError, Store
from stages.failures import MOST_LETTERS, failure_of, forget_failure, note_failure
from stages.ref import Ref

REF = Ref(name="pool/coyo", version="v1")


def test_a_note_is_found_again_and_a_long_one_keeps_both_ends(any_store: Store) -> None:
    assert failure_of(any_store, REF) is None
    note_failure(any_store, REF, RuntimeError("begins" + "x" * 9000 + "ends"), "run-1")
    found = failure_of(any_store, REF)
    assert found is not None and found.flow_run_id == "run-1" and found.at > 0
    assert found.message.startswith("begins") and found.message.endswith("ends")
    assert len(found.message) < MOST_LETTERS + 10
    forget_failure(any_store, REF)
    forget_failure(any_store, REF)
    assert failure_of(any_store, REF) is None


def test_a_store_that_takes_no_note_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(Store, "write", full)
    note_failure(Store(str(tmp_path)), REF, RuntimeError("why"))
    assert "no space left" in caplog.text
