"""The funnel as a picture: every number in it is one of the counts."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from infra.storage import Store
from stages.funnel_drawing import count_sources, draw, main
from stages.manifest import ManifestError

SOURCES = {"laion_en": (1000, 900, 800, 50), "own": (10, 10, 10, 8)}


def test_counts_and_the_papers_shares_are_drawn() -> None:
    root = ElementTree.fromstring(draw(SOURCES, "Rows <of> a run & more"))
    words = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert "Rows <of> a run & more" in words
    assert {"6.03 B · 100.0%", "4.98 B · 82.6%", "1.03 B · 17.1%"} <= set(words)
    assert {"1,010 · 100.0%", "910 · 90.1%", "810 · 80.2%", "58 · 5.7%"} <= set(words)
    assert "80.0% ◇ 83.6%" in words and "5.0% ◇ 3.9%" in words
    assert "100.0%" in words, "a source that the paper does not have stands without a mark"


def test_no_bar_is_wider_than_its_back() -> None:
    root = ElementTree.fromstring(draw(SOURCES, "x"))
    widths = {
        kind: [float(e.attrib["width"]) for e in root.iter() if e.attrib.get("class") == kind]
        for kind in ("back", "kept")
    }
    assert widths["kept"] and max(widths["kept"]) <= max(widths["back"])


def test_a_run_that_does_not_stand_is_named(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ManifestError, match="no pool of version 'tiny'; run the stage"):
        count_sources(store, "tiny")
    assert main(["tiny", str(tmp_path / "x.svg"), "--store", store.root]) == 2
    assert capsys.readouterr().err.startswith("error: ") and not (tmp_path / "x.svg").exists()
