"""The listed benchmarks, and their reference page."""

from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipelines.benchmark_list import MARK, own_benchmarks, page
from pipelines.cli import app
from stages.evaluations.registry import benchmarks

ROOT = Path(__file__).parents[2]
PAGE, OWN = ROOT / "docs/reference/benchmarks.md", ROOT / "tests/stages/evaluations/own"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.benchmark_list.console", Console(width=300))


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["benchmarks", *words])
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


def test_the_reference_page_is_what_the_command_prints() -> None:
    told = page(own_benchmarks([OWN]))
    text = PAGE.read_text()
    assert text.partition(MARK + "\n")[2] == told, f"the list has changed: put `{MARK[22:-4]}` into the page"
    assert call("--markdown", "--own", str(OWN))[1] == " ".join(told.split())
    # Without datasets of real pictures nothing was run on any.
    assert "`cifar10_subset`" in told and "`cifar10_subset`" not in page([])


def test_the_page_has_every_row_once() -> None:
    told = page([])
    rows = sum(len(each.rows) for each in benchmarks().values())
    assert told.count("`internvl evaluate CHECKPOINT") == rows
    tables = [line for line in told.splitlines() if line.startswith("| ")]
    assert all(line.endswith(" |") for line in tables)
    assert "## Zero-shot image classification (30)" in told and "| FGVC Aircraft | the paper's |" in told
    assert "top1: InternVL-C 83.2" in told and "cider: InternVL-G 128.2" in told and "224 1298.5;" in told


def test_all_are_listed_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    code, text = call(
        "--data", str(tmp_path), "--at", f"mnist={tmp_path}", "--at", "pets=/nowhere", "--own", str(OWN)
    )
    assert code == 0 and all(name in text for name in [*benchmarks(), "cifar10_subset"])
    assert (
        f"InternVL-C 78.2 {tmp_path}/coco" in text and f"80.6 {tmp_path}" in text and "96.0 not at /nowhere" in text
    )
    assert "99.4 not found" in text
    assert "99.4 give --data" in call()[1]


def test_one_is_shown_with_what_to_fetch() -> None:
    code, text = call("msrvtt")
    assert code == 0 and "frames=8, queries=yes InternVL-G mean_recall 63.4 arXiv 2312.14238" in text
    assert "To fetch: The 1,000 videos of MSRVTT_JSFUSION_test.csv" in text and "--at msrvtt=PATH" in text
    code, text = call("tiny_lvlm")
    assert code == 0 and "Not measured: answers are judged by a hosted language model" in text and "327.6" in text
    code, text = call("camvid_subset", "--own", str(OWN / "camvid_subset.yaml"))
    assert code == 0 and "CamVid" in text and "Classes: 11" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["coca"], "no benchmark is named 'coca'; did you mean coco"),
        (["--at", "coco"], "--at 'coco' names no place; write it as NAME=PATH"),
        (["--own", "/nowhere.yaml"], "the dataset's description /nowhere.yaml cannot be read"),
    ],
)
def test_wrong_words_are_refused_with_the_next_move(words: list[str], says: str) -> None:
    code, text = call(*words)
    assert code == 2 and says in text and "Traceback" not in text


def test_an_own_dataset_cannot_take_a_known_name(tmp_path: Path) -> None:
    text = (OWN / "coco_mini.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text.replace("name: coco_mini", "name: coco"))
    assert "describes coco, a name that is taken" in call("--own", str(tmp_path))[1]
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(text)
    assert "describes coco_mini, a name that is taken" in call("--own", str(tmp_path))[1]
