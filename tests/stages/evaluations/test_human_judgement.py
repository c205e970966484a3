"""Agreement with people: by hand, through tables as they come, and on Flickr8k's own judgements."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import ColourJudge, FakeSubject, ListedExamples, plain

from stages.evaluations.base import Outcome
from stages.evaluations.human_judgement import correlations
from stages.evaluations.retrieval import Settings, run
from stages.manifest import ManifestError

NAMES = ("set_1_a.jpg", "set_2_b.jpg", "set_3_c.jpg")


def examples() -> ListedExamples:
    shown = [[plain(colour)] for colour in ("red", "green", "blue")]
    return ListedExamples(shown, said=[["red", "it is red"], ["green", "grass"], ["blue", "sky"]], names=NAMES)


def table(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def agreed(judgements: Path, captions: Path | None = None) -> Outcome:
    settings = Settings(judgements=judgements, judged_captions=captions)
    return run(FakeSubject(ColourJudge()), examples(), settings, "flickr")


def values(outcome: Outcome) -> dict[str, float]:
    return {measure.name: measure.value for measure in outcome.measures if measure.unit != "%"}


def test_correlations_by_hand() -> None:
    # Of the 6 pairs of pairs 5 are in order, 1 is not.
    cosines, scores = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2.0, 4.0, 3.0])
    found = {each.name: each for each in correlations("s", "en", "_x", np.arange(4), cosines, scores)}
    assert found["kendall_tau_b_x"].value == pytest.approx(4 / 6)
    assert found["kendall_tau_c_x"].value == pytest.approx(4 / 6)
    assert found["spearman_x"].value == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found["spearman_x"].unit == "rho" and found["spearman_x"].chance == 0.0
    assert found["spearman_x"].low <= found["spearman_x"].value <= found["spearman_x"].high


def test_a_model_to_which_all_is_equal_agrees_with_nothing() -> None:
    found = correlations("s", "en", "", np.arange(4), np.zeros(4), np.arange(4.0))
    assert {each.value for each in found} == {0.0}


def test_captions_are_found_by_their_numbers_and_sources_are_told_apart(tmp_path: Path) -> None:
    judgements = table(
        tmp_path / "j.parquet",
        source=["expert", "expert", "expert", "the-crowd", "the-crowd", "the-crowd"],
        image=["1_a.jpg", "1_a.jpg", "2_b.jpg", "1_a.jpg", "3_c.jpg", "elsewhere.jpg"],
        caption_id=["1_a.jpg#1", "2_b.jpg#0", "2_b.jpg#0", "3_c.jpg#0", "3_c.jpg#0", "1_a.jpg#0"],
        score=[4.0, 1.0, 3.0, 0.0, 1.0, 1.0],
    )
    found = agreed(judgements)
    assert values(found)["kendall_tau_b_expert"] == pytest.approx(2 / (2 * 3) ** 0.5)
    assert values(found)["spearman_the_crowd"] == pytest.approx(1.0)
    facts = found.facts["judgements"]
    assert facts["judged"] == {"expert": 3, "the-crowd": 2} and facts["left_out"] == 1
    assert found.measures[0].name == "mean_recall"


def test_captions_of_absent_pictures_come_from_their_own_table(tmp_path: Path) -> None:
    judgements = table(
        tmp_path / "j.parquet",
        image=["1_a.jpg", "1_a.jpg", "2_b.jpg"],
        caption_id=["9_z.jpg#0", "9_z.jpg#1", "9_z.jpg#7"],
        score=[1, 0, 1],
    )
    with pytest.raises(ManifestError, match="judges 0 of the 3 pictures"):
        agreed(judgements)
    captions = table(tmp_path / "c.parquet", image=["9_z.jpg"] * 8, caption=["a red", "a blue", *["x"] * 5, "green"])
    found = agreed(judgements, captions)
    assert values(found)["kendall_tau_b"] == pytest.approx(1.0)


def test_a_caption_may_stand_in_the_table_itself(tmp_path: Path) -> None:
    judgements = table(
        tmp_path / "j.parquet", image=["1_a", "2_b", "3_c"], caption=["red", "red", "blue"], score=[1.0, 0.0, 0.0]
    )
    assert values(agreed(judgements))["spearman"] == pytest.approx(0.5)


def test_tables_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no column 'score', only image"):
        agreed(table(tmp_path / "j.parquet", image=["1_a.jpg"]))
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(ManifestError, match=r"text\.parquet cannot be read as parquet"):
        agreed(tmp_path / "text.parquet")
    with pytest.raises(ManifestError, match=r"gone\.parquet cannot be read"):
        agreed(tmp_path / "gone.parquet")


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(tmp_path: Path, score: float) -> None:
    rows = {"image": ["1_a.jpg", "2_b.jpg", "3_c.jpg"], "caption": ["red", "green", "blue"]}
    judgements = table(tmp_path / "j.parquet", **rows, score=[1.0, 2.0, score])
    with pytest.raises(ManifestError, match=r"pair with 3_c\.jpg is (nan|inf), no finite number; mend the row"):
        agreed(judgements)
    worded = table(tmp_path / "w.parquet", **rows, score=["1", "2", "good"])
    with pytest.raises(ManifestError, match=r"1_a\.jpg is '1', no finite number"):
        agreed(worded)
    judgements = table(tmp_path / "n.parquet", **rows, score=[1.0, 2.0, None])
    assert agreed(judgements).facts["judgements"]["left_out"] == 1


def test_other_judgements_are_other_settings(tmp_path: Path) -> None:
    def settings(score: float) -> Settings:
        rows = {"image": ["1_a.jpg", "2_b.jpg"], "caption": ["red", "green"]}
        return Settings(judgements=table(tmp_path / "j.parquet", **rows, score=[1.0, score]))

    first, second = settings(2.0), settings(3.0)
    assert first.tables and first.tables != second.tables and settings(3.0) == second
    assert Settings.model_validate(second.model_dump(mode="json")) == second
    # The table that was chosen is the one that is measured with.
    with pytest.raises(ValueError, match="not those that were chosen; run the command again"):
        Settings.model_validate(first.model_dump(mode="json"))
    assert Settings().tables == ""
