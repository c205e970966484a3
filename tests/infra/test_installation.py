"""The mark of an installation: its own, the same for all its processes, and none that two would share by chance."""

from pathlib import Path

import pytest

from infra.installation import installation
from infra.settings import Settings, quiet_environment, settings
from infra.storage import StorageError


def here(home: Path) -> Settings:
    return Settings(home=home, store_root="s3://shared/store")


def test_two_homes_with_one_store_and_equal_addresses_have_two_marks(tmp_path: Path) -> None:
    first, second = installation(here(tmp_path / "a")), installation(here(tmp_path / "b"))
    assert first != second and len(first) == 16
    assert installation(here(tmp_path / "a")) == first, "it stands"


def test_processes_without_a_common_home_are_given_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_INSTALLATION", "lab-1")
    for name in ("a", "b"):
        monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / name))
        assert installation(settings()) == "lab-1"
        assert quiet_environment(settings())["INTERNVL_INSTALLATION"] == "lab-1"
    assert not (tmp_path / "a").exists()


def test_an_empty_mark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "installation").write_text("\n")
    with pytest.raises(StorageError, match="is empty; remove it"):
        installation(here(tmp_path))
