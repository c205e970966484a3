"""The reference page says what the code does."""

from filters.catalogue import FILTERS
from filters.reference import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m filters.reference"


def test_every_filter_is_on_it_with_an_origin_and_examples() -> None:
    sections = page().split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == list(FILTERS)
    for section in sections:
        assert "Threshold: " in section and "- drops " in section and "- keeps " in section
