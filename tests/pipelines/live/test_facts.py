"""Totals as lines: names as words, zeros left out, long tables cut."""

from pipelines.live.facts import MOST_LETTERS, MOST_LINES, lines_of


def test_counts_come_largest_first_and_zeros_are_left_out() -> None:
    told = lines_of({"length_units": 66, "boilerplate": 0, "completeness": 1600, "readability": None})
    assert told == ("completeness 1,600, length units 66",)


def test_a_table_of_tables_has_a_line_for_each_row_that_says_anything() -> None:
    rows = {"gibberish": {"found": 4, "precision": 0.98765}, "filename": {"found": 0, "precision": None}}
    assert lines_of(rows) == ("gibberish: found 4, precision 0.9877",)


def test_mixed_values_keep_their_order_and_lists_are_joined() -> None:
    assert lines_of({"layout": "sorted", "sizes": [1, 2000]}) == ("layout sorted, sizes 1, 2,000",)
    assert lines_of(True) == ("True",) and lines_of(0) == ("0",) and lines_of(2.50201) == ("2.502",)


def test_what_is_long_is_cut_and_says_so() -> None:
    rows = {f"rule_{number}": {"found": 1} for number in range(MOST_LINES + 3)}
    assert len(lines_of(rows)) == MOST_LINES + 1 and lines_of(rows)[-1] == "and 3 more"
    assert len(lines_of("x" * 1000)[0]) == MOST_LETTERS
