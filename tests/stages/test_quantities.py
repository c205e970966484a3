import pytest

from stages.quantities import duration, gigabytes


@pytest.mark.parametrize(("seconds", "text"), [(12, "12 s"), (600, "10 min"), (9000, "2.5 h"), (400_000, "4.6 days")])
def test_times_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1.5e6, "1.5 MB"), (2.2e14, "220.0 TB")])
def test_sizes_as_people_read_them(size: float, text: str) -> None:
    assert gigabytes(size) == text
