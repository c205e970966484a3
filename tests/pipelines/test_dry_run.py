"""A dry run tells steps, states and costs, and makes nothing."""

from pathlib import Path

import pytest

from infra.storage import Store
from pipelines.changes import rerun_steps
from pipelines.dry_run import markdown
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))


def test_the_whole_road_is_priced_and_nothing_is_made(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    text = markdown(steps_of(FlowName.INTERNVL, RecipeName.PAPER), store)
    assert "| list_urls laion_en | listing/laion_en@paper | missing |" in text
    assert "| download laion_en | pool/laion_en@paper | waits for its inputs |" in text
    assert "nothing of it was downloaded yet: internvl plan data --pilot 10000" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| contrastive |") and "e+" in line]
    assert line.count("|") == 8 and "–" not in line, "GPU hours of both cards are told"
    assert store.keys() == []


def test_a_rerun_without_training_prices_no_training(tmp_path: Path) -> None:
    text = markdown(rerun_steps("filter", RecipeName.TINY, ["coyo"], []), Store(str(tmp_path / "store")))
    assert text.count("| filter ") == 2
    assert "Trainings" not in text and "Downloads" not in text
