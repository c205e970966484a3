"""What was left out or set otherwise is told, and lies in the published row with what was noticed in the data."""

from pathlib import Path

from measured_worlds import chosen, colours, make_towers, measured, paint

from infra.storage import Store
from stages.evaluations.departures import departures
from stages.evaluations.results import read_result

SPEC = colours(examples=16)
NAME = "colours.zero_shot_classification.en"


def test_limits_counts_and_settings_are_told(tmp_path: Path) -> None:
    place = paint(tmp_path)
    choice = chosen(place, SPEC)[NAME]
    assert departures(NAME, choice, 16) == ()
    assert departures(NAME, choice, 15) == ("15 of 16 examples",)
    shown = choice.model_copy(update={"settings": {**choice.settings, "shown": 3}})
    assert departures(NAME, shown, 16) == ()
    other = choice.model_copy(update={"settings": {**choice.settings, "queries": True}, "limit": 8})
    assert departures(NAME, other, 8) == ("8 of 16 examples", "queries True and not False")


def test_half_a_dataset_says_so_in_its_row(store: Store, tmp_path: Path) -> None:
    place = paint(tmp_path / "data")
    for file in sorted(place.rglob("*.png"))[::2]:
        file.unlink()
    (next(place.rglob("*.png"))).write_bytes(b"no picture")
    made = measured(store, tmp_path, make_towers(store), chosen(place, SPEC))
    result = read_result(store, made, made.parts[0])
    assert result.departures == ("7 of 16 examples",)
    assert "Plain colours has 16 examples, 8 were found" in result.notes[0]
    assert "1 of 8 examples cannot be read and are left out" in result.notes[1]
    assert "7 of 16 examples" in made.totals["markdown"]
