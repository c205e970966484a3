"""A memory of a fixed size: what it keeps, and what it forgets."""

import pickle

from stages.recent import KEPT, Recent


def test_it_keeps_so_many_and_forgets_the_least_lately_used() -> None:
    made: list[int] = []

    def make(key: int) -> str:
        made.append(key)
        return str(key)

    recent: Recent[int, str] = Recent(kept=3)
    assert [recent.get(key, make) for key in (1, 2, 3, 1, 4, 1)] == ["1", "2", "3", "1", "4", "1"]
    assert made == [1, 2, 3, 4] and len(recent) == 3
    again = pickle.loads(pickle.dumps(recent))
    again.get(3, make)
    assert made == [1, 2, 3, 4], "it travels with what it keeps"
    again.get(2, make)
    assert made == [1, 2, 3, 4, 2], "two was not used for longest when four came"


def test_it_is_bounded_where_nobody_says_how_large() -> None:
    recent: Recent[int, int] = Recent()
    for key in range(KEPT + 10):
        recent.get(key, int)
    assert len(recent) == KEPT
