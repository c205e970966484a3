"""Signals are joined by uid: in the order that is wanted, null as NaN, and never by guessing rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import Store
from stages.manifest import Ledger, Manifest, ManifestError
from stages.ref import Ref
from stages.signal_columns import read_signals
from stages.workspace import Output, parquet_bytes

UIDS = [bytes([n]) * 16 for n in range(4)]


def published(store: Store, name: str, **signals: tuple[list[bytes], Any]) -> Manifest:
    output = Output(store, Ref(name=f"signals/{name}", version="v1"), "score", {})
    files = {
        signal: (
            f"{signal}/0.parquet",
            parquet_bytes(pa.table({"uid": pa.array(uids, pa.binary(16)), "value": values})),
        )
        for signal, (uids, values) in signals.items()
    }
    return output.commit([output.part("0", "d", Ledger(listed=4, kept=4), files)])


def uids(*numbers: int) -> pa.Array:
    return pa.array([bytes([n]) * 16 for n in numbers], pa.binary(16))


@pytest.fixture
def signals(store: Store) -> tuple[Store, Manifest]:
    text = pa.array(["a", None, "c", "d"]).dictionary_encode()
    return store, published(store, "toy", number=(UIDS, pa.array([1, None, 3, 4], pa.int16())), text=(UIDS, text))


def test_all_rows(signals: tuple[Store, Manifest]) -> None:
    store, manifest = signals
    found, columns = read_signals(store, manifest, manifest.parts[0], ["number", "text"])
    assert found.to_pylist() == UIDS and columns["text"].to_pylist() == ["a", None, "c", "d"]
    assert columns["number"].dtype == np.float32
    assert np.array_equal(columns["number"], np.float32([1, np.nan, 3, 4]), equal_nan=True)


def test_some_rows_in_the_order_that_is_wanted(signals: tuple[Store, Manifest]) -> None:
    store, manifest = signals
    found, columns = read_signals(store, manifest, manifest.parts[0], ["text", "number"], uids(3, 0))
    assert found == uids(3, 0) and columns["text"].to_pylist() == ["d", "a"] and columns["number"].tolist() == [4, 1]
    none, columns = read_signals(store, manifest, manifest.parts[0], ["number"], uids())
    assert len(none) == len(columns["number"]) == 0


def test_rows_that_do_not_belong_together_are_refused(store: Store, signals: tuple[Store, Manifest]) -> None:
    _, manifest = signals
    with pytest.raises(ManifestError, match=r"1 rows are not in signals/toy@v1 part 0; .* judge them again"):
        read_signals(store, manifest, manifest.parts[0], ["number"], uids(0, 9))
    with pytest.raises(ManifestError, match="has no 'sparkle', only number, text"):
        read_signals(store, manifest, manifest.parts[0], ["sparkle"])
    numbers = pa.array([1, 2, 3, 4])
    mixed = published(store, "mixed", one=(UIDS, numbers), other=(UIDS[::-1], numbers))
    with pytest.raises(
        ManifestError, match="signal other of signals/mixed@v1 part 0 names other rows; score it again"
    ):
        read_signals(store, mixed, mixed.parts[0], ["one", "other"])


def test_whole_numbers_that_float32_has_to_round_are_read(store: Store) -> None:
    manifest = published(store, "large", number=(UIDS, pa.array([2**24 + 1, None, 2**40 + 1, 4], pa.int64())))
    _, columns = read_signals(store, manifest, manifest.parts[0], ["number"])
    assert np.array_equal(columns["number"], np.float32([2**24, np.nan, 2**40, 4]), equal_nan=True)


def test_uids_are_decoded_once_and_every_file_is_still_held_against_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    whole = pq.ParquetFile.read

    def counted(file: pq.ParquetFile, columns: list[str], **given: Any) -> pa.Table:
        read.append(columns)
        return whole(file, columns=columns, **given)

    monkeypatch.setattr(pq.ParquetFile, "read", counted)
    values = pa.array([1, 2, 3, 4], pa.int16())
    manifest = published(store, "spelled", a=(UIDS, values), b=(UIDS, values), c=([*UIDS[:3], b"x" * 16], values))
    read_signals(store, manifest, manifest.parts[0], ["a", "b"])
    assert read == [["uid", "value"], ["value"]]
    with pytest.raises(ManifestError, match="signal c of signals/spelled@v1 part 0 names other rows"):
        read_signals(store, manifest, manifest.parts[0], ["a", "b", "c"])


def test_the_same_uids_in_another_spelling_are_the_same_rows(store: Store) -> None:
    values = pa.array([1, 2, 3, 4], pa.int16())
    table = pa.table({"uid": pa.array(UIDS, pa.binary(16)), "value": values})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", row_group_size=3, use_dictionary=False)
    output = Output(store, Ref(name="signals/two", version="v1"), "score", {})
    files = {"a": ("a/0.parquet", parquet_bytes(table)), "b": ("b/0.parquet", sink.getvalue().to_pybytes())}
    manifest = output.commit([output.part("0", "d", Ledger(listed=4, kept=4), files)])
    found, columns = read_signals(store, manifest, manifest.parts[0], ["a", "b"])
    assert found.to_pylist() == UIDS and columns["a"].tolist() == columns["b"].tolist() == [1, 2, 3, 4]
