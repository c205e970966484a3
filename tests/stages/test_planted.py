"""Precision and recall against the planted truth, where finder and truth differ."""

from stages.planted import counts, judge_outcomes, judge_rules, markdown, pooled

ONE, TWO, THREE, FOUR = (bytes([n]) * 16 for n in range(4))


def test_outcomes_are_right_only_where_exactly_they_were_planted() -> None:
    planned = {ONE: "fetched", TWO: "gone", THREE: "gone", FOUR: "timeout"}
    seen = {ONE: "timeout", TWO: "gone", THREE: "fetched", FOUR: "timeout"}
    found = judge_outcomes(planned, seen)
    assert (found["gone"]["precision"], found["gone"]["recall"]) == (1.0, 0.5)
    assert (found["timeout"]["precision"], found["timeout"]["recall"]) == (0.5, 1.0)
    line = pooled("pool/x", found)
    assert (line.planted, line.hits, line.precision, line.recall) == (3, 3, 0.6667, 0.6667)


def test_a_rule_may_take_what_was_planted_for_another_but_finds_only_its_own() -> None:
    dirt = {ONE: {"gibberish"}, TWO: {"boilerplate"}, THREE: set[str]()}
    seen = {ONE: set[str](), TWO: {"gibberish"}, THREE: {"gibberish"}}
    found = judge_rules(dirt, seen, ["gibberish", "boilerplate"])
    assert found["gibberish"] == counts(planted=1, hits=2, right=1, found=0)
    assert (found["gibberish"]["precision"], found["gibberish"]["recall"]) == (0.5, 0.0)
    assert found["boilerplate"]["recall"] == 0.0


def test_rows_that_never_reached_a_rule_are_not_counted_as_missed() -> None:
    assert judge_rules({ONE: {"gibberish"}}, {}, ["gibberish"])["gibberish"]["planted"] == 0


def test_markdown_ends_with_the_pooled_line() -> None:
    text = markdown({"fetched": counts(8, 8, 8, 8), "gone": counts(2, 1, 1, 1)})
    assert text.splitlines()[-1] == "| **pooled** | 2 | 1 | **1.000** | **0.500** |"
