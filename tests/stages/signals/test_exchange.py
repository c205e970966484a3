"""Answers are those of one counter over everything, for any number of buckets and any order of parts."""

from collections import Counter

import numpy as np
import pytest

from infra.storage import Store
from stages.signals.exchange import Asked, Exchange, Kind
from stages.signals.keys import counted, mixed
from stages.signals.repeats import count_answer, few_addresses, unrelated_answer

KINDS = {"first": Kind(2, count_answer, np.max), "second": Kind(2, count_answer, np.sum)}
PARTS = ("000000", "000001", "000002")


def asked_of(keys: np.ndarray) -> Asked:
    distinct, counts, back = counted(mixed(keys))
    return Asked(np.stack([distinct, counts.astype(np.uint64)], axis=1), back.reshape(-1, 1))


@pytest.mark.parametrize("buckets", [1, 2, 64])
@pytest.mark.parametrize("order", [PARTS, PARTS[::-1]])
def test_counts_span_all_parts(store: Store, buckets: int, order: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    ones = {part: rng.integers(0, 50, 200) for part in PARTS}
    twos = {part: rng.integers(0, 5, 200) for part in PARTS}
    exchange = Exchange(store, "a/spill/run", KINDS, buckets, order)
    for part in order:
        exchange.ask(part, {"first": asked_of(ones[part]), "second": asked_of(twos[part])}, {"kept": ones[part]})
    for bucket in reversed(range(buckets)):
        exchange.answer(bucket)
    for name, given in (("first", ones), ("second", twos)):
        wanted = Counter(value for values in given.values() for value in values.tolist())
        for part in PARTS:
            found, kept = exchange.read(part)
            assert found[name].tolist() == [wanted[value] for value in given[part].tolist()]
            assert kept["kept"].tolist() == ones[part].tolist()
    store.write("a/spill/rival/x", b"")
    exchange.clear()
    assert list(store.keys()) == ["a/spill/rival/x"]
    exchange.clear_all()
    assert not list(store.keys())


def test_a_sample_of_which_no_row_speaks_has_no_answer_and_several_are_merged(store: Store) -> None:
    exchange = Exchange(store, "a/spill/run", KINDS, 4, PARTS[:1])
    rows = asked_of(np.array([1, 1, 2])).rows
    at = np.array([[0, 1], [-1, -1], [1, -1]])
    exchange.ask(PARTS[0], {"first": Asked(rows, at), "second": Asked(rows, at)}, {})
    for bucket in range(4):
        exchange.answer(bucket)
    found, _ = exchange.read(PARTS[0])
    counts = rows[:, 1].astype(int)
    assert found["first"].tolist()[::2] == [2.0, counts[1]] and np.isnan(found["first"][1])
    assert found["second"].tolist()[::2] == [3.0, counts[1]] and np.isnan(found["second"][1])


def test_a_part_without_samples_asks_nothing(store: Store) -> None:
    exchange = Exchange(store, "a/spill/run", KINDS, 2, PARTS[:1])
    nothing = asked_of(np.zeros(0, dtype=np.uint64))
    exchange.ask(PARTS[0], {"first": nothing, "second": nothing}, {})
    for bucket in range(2):
        exchange.answer(bucket)
    assert exchange.read(PARTS[0])[0]["first"].shape == (0,)


def test_millions_of_one_picture_are_judged_by_a_sample_that_knows_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.signals.repeats.MOST_PAIRS", 50)
    urls = mixed(np.arange(1000))
    rows = np.stack([np.full(1000, 7, np.uint64), urls, mixed(urls)], axis=1)
    shuffled = np.random.default_rng(0).permutation(rows)
    assert set(unrelated_answer(rows)) == set(unrelated_answer(shuffled)) == {50}
    # A part that holds half of them and others that hold the rest say the same.
    assert set(unrelated_answer(np.concatenate([rows[500:], rows[:600]]))) == {50}
    chosen = few_addresses(np.concatenate([few_addresses(rows[:600]), few_addresses(rows[500:])]))
    assert len(chosen) == 50 and chosen.tolist() == few_addresses(shuffled).tolist()
