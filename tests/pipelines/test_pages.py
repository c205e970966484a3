import io
from pathlib import Path

import pytest
from rich.console import Console

from infra.settings import settings
from infra.storage import Store
from pipelines.pages import in_a_line, markdown, progress_words, signpost, summary_of
from pipelines.summary import summary
from pipelines.terminal import explain
from stages.list_urls import Parameters
from stages.manifest import Ledger, Manifest
from stages.planted import counts
from stages.ref import Ref
from stages.workspace import Output


def commit(store: Store, name: str, kept: int, **totals: object) -> Manifest:
    output = Output(
        store=store, ref=Ref(name=name, version="v1"), stage=name.partition("/")[0], identity={"inputs": {}}
    )
    part = output.part("000", "abc", Ledger(listed=10, kept=kept, failed=10 - kept), {})
    return output.commit([part], totals=totals, reports={"filter_report": ("report.html", b"<p>")})


def test_a_page_holds_the_ledger_the_numbers_and_links(store: Store) -> None:
    manifest = commit(
        store, "pool/coyo", 7, outcomes={"fetched": 7, "not_found": 3}, share=0.123456, markdown="| a |"
    )
    page = markdown("download coyo", manifest, "http://reports")
    assert "listed 10 = kept 7 + rejected 0 + failed 3" in page
    assert "(http://reports/pool/coyo/v1/)" in page
    assert "[Open the filter report](http://reports/pool/coyo/v1/reports/report-" in page
    assert "| not found | 3 |" in page and "| share | 0.1235 |" in page and "| a |" in page


def test_a_download_tells_its_outcomes_once(store: Store) -> None:
    manifest = commit(
        store, "pool/cc3m", 7, outcomes={"fetched": 7}, ladder={"listed": 10}, markdown="| fetched | kept | 7 |"
    )
    page = markdown("download cc3m", manifest, "http://reports")
    assert page.count("fetched") == 1 and "| fetched | kept | 7 |" in page
    assert "[Open the times of this run](http://reports/pool/cc3m/v1/reports-live/hosts.html)" in page


def text_of(store: Store, refs: list[str]) -> str:
    out = io.StringIO()
    summary(Console(file=out, width=150), store, refs, {"pool/coyo": 90.0})
    return out.getvalue()


def test_the_summary_leaves_out_what_is_not_finished(store: Store) -> None:
    names = ("listing/coyo", "pool/coyo", "verdicts/clean/coyo", "verdicts/caption_quality/coyo", "pool/cc3m")
    refs = [f"{name}@v1" for name in names]
    assert text_of(store, refs) == ""
    commit(store, "listing/coyo", 10)
    commit(store, "pool/coyo", 8, planted={"fetched": counts(8, 8, 8, 8), "gone": counts(4, 2, 2, 1)})
    assert "│ coyo" not in text_of(store, refs)
    commit(store, "verdicts/clean/coyo", 6)
    commit(store, "verdicts/caption_quality/coyo", 4)
    commit(store, "pool/cc3m", 8)
    text = text_of(store, refs)
    (row,) = (line for line in text.splitlines() if "│ coyo" in line)
    assert [cell.strip() for cell in row.split("│")[1:6]] == ["coyo", "10", "8", "6", "4"]
    assert "60.0 %" in row and "cc3m" not in text
    assert "ledger: listed 10 = kept 4 + rejected 4 + failed 2" in text
    assert "pool 1.5" in text
    (row,) = (line for line in text.splitlines() if "│ pool/coyo" in line)
    assert [cell.strip() for cell in row.split("│")[1:6]] == ["pool/coyo", "4", "2", "1.000", "0.250"]


def test_what_pydantic_found_is_named_field_by_field() -> None:
    with pytest.raises(ValueError) as wrong:
        Parameters.model_validate({"source": "No Spaces", "rows_per_part": 0})
    text = explain(wrong.value)
    assert "source: String should match pattern" in text
    assert "rows_per_part: Input should be greater than or equal to 1" in text
    assert "https://" not in text


def test_progress_leads_to_the_pages_that_show_it_beside_the_others() -> None:
    told = progress_words("download coyo", "4 of 10 parts", Ref(name="pool/coyo", version="v1"), "http://r")
    assert told.startswith("download coyo: 4 of 10 parts (")
    assert "(http://r/grid?version=v1)" in told and "(http://r/lineage?of=pool/coyo@v1)" in told


def test_a_run_says_first_how_much_there_is_to_make() -> None:
    states = {"listing/a@v": "stands", "pool/a@v": "missing", "signals/a@v": "waits for its inputs"}
    assert summary_of(states) == "3 steps: 2 to make, 1 stand already"
    assert summary_of(states, force=True) == "3 steps to make"
    assert summary_of({"pool/a@v": "missing"}) == "1 step to make"


def test_a_runs_page_leads_to_all_that_shows_it_and_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INTERNVL_RAY_JOBS", "INTERNVL_REPORT_URL", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    here = settings()
    here.ray_token_path.parent.mkdir()
    here.ray_token_path.write_text("secret-of-ray")
    told = signpost("internvl-tiny", "3 steps to make", here)
    for address in ("/lineage", "/grid", "/checkpoints", "/"):
        assert f"({here.report_url}{address})" in told
    assert f"({here.ray_jobs_address})" in told and f"asks for the token in `{here.ray_token_path}`" in told
    assert f"tensorboard --host 127.0.0.1 --logdir {tmp_path / 'tensorboard'}" in told
    assert "secret-of-ray" not in told
    monkeypatch.setenv("INTERNVL_RAY_JOBS", "http://ray:8265")
    assert "(http://ray:8265)" in signpost("x", "y", here) and "asks for" not in signpost("x", "y", here)


def test_a_line_says_where_rows_went_and_how_far_a_training_came(store: Store) -> None:
    assert in_a_line(commit(store, "pool/a", 7)) == "listed 10 = kept 7 + rejected 0 + failed 3"
    trained = in_a_line(commit(store, "checkpoints/a", 10, steps=1300, last_loss=0.578951))
    assert trained.endswith("; 1,300 steps, last loss 0.579")
