"""The lease of a flow run: there while it works, gone with it, and never a reason to fail a finished run."""

from pathlib import Path
from uuid import uuid4

import pytest

from infra.storage import Store, StoreUnavailable
from pipelines import presence


class Current:
    """What Prefect says of the run that this process works for."""

    id = str(uuid4())
    name = "brave-cat"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("INTERNVL_STORE", str(tmp_path))
    monkeypatch.setattr(presence, "current_flow", Current)
    return Store(str(tmp_path))


def test_a_run_is_present_for_as_long_as_it_works(store: Store) -> None:
    with presence.present():
        tenure = presence.tenures(store)[Current.id]
        assert tenure.living and tenure.holder.startswith("flow run brave-cat")
    assert presence.tenures(store) == {} and store.folders(presence.FOLDER) == []


def test_a_store_that_is_away_at_the_end_does_not_fail_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("no answer")

    with presence.present():
        monkeypatch.setattr(Store, "remove", away)
    assert "is left: no answer" in caplog.text
    assert presence.tenures(store)[Current.id].free, "given back all the same"
