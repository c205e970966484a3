"""Every published number stands beside a measure of ours: the protocols are run, and their measures looked up."""

import pytest
from worlds import ColourJudge, FakeSubject, ListedExamples, plain

from stages.evaluations import retrieval, video_classification, video_retrieval, zero_shot_classification
from stages.evaluations.base import ProtocolFunction
from stages.evaluations.protocols import PROTOCOLS, settings_of
from stages.evaluations.registry import Row, benchmarks

CHEAP: dict[str, ProtocolFunction] = {
    "zero_shot_classification": zero_shot_classification.run,
    "video_classification": video_classification.run,
    "retrieval": retrieval.run,
    "video_retrieval": video_retrieval.run,
}
"""What runs without training or writing anything."""
ROWS = [
    pytest.param(row, id=f"{name}-{number}")
    for name, spec in benchmarks().items()
    for number, row in enumerate(spec.rows)
    if row.protocol in CHEAP and row.paper
]
NAMES = tuple(f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in ("cup", "hat"))


def examples() -> ListedExamples:
    return ListedExamples(
        shown=[[plain(name.split()[0], noise=number)] for number, name in enumerate(NAMES)],
        classes=NAMES,
        labels=range(len(NAMES)),
        said=[[f"a {name}"] for name in NAMES],
    )


@pytest.mark.parametrize("row", ROWS)
def test_every_published_number_has_a_measure_of_ours(row: Row) -> None:
    given = row.settings | {"queries": False}
    if "classification" in row.protocol:
        given |= {"class_names": NAMES, "templates": ("a {c}",)}
    settings = settings_of(PROTOCOLS[row.protocol], given)
    subject = FakeSubject(ColourJudge())
    measures = [each.name for each in CHEAP[row.protocol](subject, examples(), settings, "set").measures]
    assert {each.metric for each in row.paper} <= set(measures)
    assert row.paper[0].metric == measures[0], "the first one is the one that the paper reports"
