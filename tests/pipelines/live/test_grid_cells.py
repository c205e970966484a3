"""Parts as cells: of thousands a cell stands for several, and never hides the worst of them."""

from infra.storage import Store
from pipelines.live.cells import MOST_CELLS, State, cells_of, counts_of, gathered
from stages.manifest import Ledger, Manifest
from stages.ref import Ref
from stages.workspace import Output


def made(store: Store, ledgers: list[Ledger], **totals: object) -> Manifest:
    output = Output(store, Ref(name="pool/coyo", version="v1"), "download", {"inputs": {}})
    return output.commit([output.part(f"{n:06d}", "d", each, {}) for n, each in enumerate(ledgers)], totals=totals)


def test_a_part_without_a_single_good_row_has_failed(store: Store) -> None:
    good, bad = Ledger(listed=4, kept=3, failed=1), Ledger(listed=4, kept=0, failed=4)
    none, rejected = Ledger(listed=0, kept=0), Ledger(listed=4, kept=0, rejected=4)
    cells = cells_of(made(store, [good, bad, none, rejected]))
    assert [cell.state for cell in cells] == [State.DONE, State.FAILED, State.DONE, State.DONE]
    assert cells[0].words() == "000000: 1 done; 1 of 4 rows failed"


def test_what_was_given_up_is_quarantined_whether_it_has_a_part_or_not(store: Store) -> None:
    cells = cells_of(
        made(
            store,
            [Ledger(listed=1, kept=1)] * 2,
            quarantined=[{"part": "000001", "rows": 1}, {"part": "000007", "rows": 3}],
        )
    )
    assert [(cell.first, cell.state) for cell in cells] == [
        ("000000", State.DONE),
        ("000001", State.QUARANTINED),
        ("000007", State.QUARANTINED),
    ]
    assert cells[2].words() == "000007: 1 quarantined; 3 of 3 rows failed"


def test_thousands_of_parts_fit_and_the_worst_shows() -> None:
    parts = [(f"{n:06d}", State.FAILED if n == 4321 else State.DONE, 10, 1) for n in range(5001)]
    cells = gathered(parts)
    assert len(cells) <= MOST_CELLS and counts_of(cells) == {State.FAILED: 1, State.DONE: 5000}
    (failed,) = (cell for cell in cells if cell.state is State.FAILED)
    assert failed.first <= "004321" <= failed.last and failed.parts > 1
    assert f"1 failed, {failed.parts - 1} done" in failed.words()


def test_few_parts_have_a_cell_each() -> None:
    assert [cell.parts for cell in gathered([("a", State.DONE, 0, 0), ("b", State.MISSING, 0, 0)])] == [1, 1]
