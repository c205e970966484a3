"""The egress policy by a recipe's limits."""

import tempfile
from pathlib import Path

import pytest

from stages.fetchers import Network, guarded
from stages.manifest import ManifestError


def test_a_place_for_turns_that_is_not_ours_is_refused_with_the_next_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    guarded(Network(), 1_000, 1)
    (folder,) = tmp_path.iterdir()
    folder.chmod(0o777)
    with pytest.raises(ManifestError, match=r"internvl-turns-.* others may write there; .*set TMPDIR"):
        guarded(Network(retries=2), 1_000, 1)
