"""The listed sources, their reference page, and the choice of a schema on the command line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.recipes import OwnData, RecipeName, make
from pipelines.sources_listing import MARK, page
from stages.sources.catalog import known

PAGE = Path(__file__).parents[2] / "docs/reference/sources.md"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("INTERNVL_STORE", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


def test_the_reference_page_is_what_the_command_prints() -> None:
    text = PAGE.read_text()
    assert text.partition(MARK + "\n")[2] == page(), "internvl sources --markdown has changed: put it into the page"
    assert call("sources", "--markdown")[1] == " ".join(page().split())


def test_all_sources_are_listed_and_one_is_shown_with_its_columns() -> None:
    code, text = call("sources")
    assert code == 0 and all(each.name in text for each in known().values())
    code, text = call("sources", "laion_coco")
    assert code == 0 and "top_caption string caption" in text and "TEXT string caption_alt" in text


def test_a_schema_is_handed_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "cc12m.tsv").write_text("http://a/1\tOne.\n")
    (tmp_path / "block.txt").write_text("example.org\n")
    own = OwnData(
        urls=(str(tmp_path / "cc12m.tsv"),), schema_name="cc12m", block_domains=(str(tmp_path / "block.txt"),)
    )
    source = make(RecipeName.PHOTOS, own).sources[0]
    listing, download = source.listing, source.download
    assert (listing.adapter, listing.block_domains) == ("cc12m", own.block_domains) and listing.content_digest
    assert download.block_domains == own.block_domains and download.addresses_digest


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sources", "laion"], "no source schema 'laion'; known are generic, laion2b_en"),
        (["run", "data", "--recipe", "photos", "--schema", "laion"], "no source schema 'laion'"),
        (
            ["plan", "data", "--recipe", "photos", "--schema", "laion2b_en"],
            "take re_laion: Re-LAION-5B is the same list",
        ),
        (["run", "data", "--recipe", "photos", "--block-urls", "/nowhere.txt"], "no file matches '/nowhere.txt'"),
    ],
)
def test_wrong_names_are_refused_with_the_next_move(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.csv").write_text("url,text\nhttp://a/1,One.\n")
    # A refusal comes before anything is started.
    monkeypatch.setattr("pipelines.launcher.up", lambda *_: pytest.fail("services were started"))
    code, text = call(*words, *(["--urls", str(tmp_path / "list.csv")] if words[0] != "sources" else []))
    assert code == 2 and says in text and "Traceback" not in text
