"""Null is not computed: through a file and back."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import Store
from stages.manifest import Ledger, Manifest, ManifestError
from stages.ref import Ref
from stages.signal_columns import read_signals
from stages.signals.column_files import column_bytes, load_embeddings, numbers, vectors
from stages.workspace import Output

UIDS = pa.array([bytes([n] * 16) for n in range(4)], pa.binary(16))
EMBEDDED = np.array([[1, 2], [np.nan, np.nan], [3, 4], [5, 6]], dtype=np.float16)


def published(store: Store, **columns: bytes) -> tuple[Output, Manifest]:
    output = Output(store=store, ref=Ref(name="signals/own", version="v1"), stage="score", identity={})
    files = {name: (f"{name}/000000.parquet", data) for name, data in columns.items()}
    part = output.part("000000", "0" * 64, Ledger(listed=4, kept=4), files)
    return output, output.commit([part])


def test_what_is_not_finite_was_not_computed(store: Store) -> None:
    values = numbers(np.array([1.5, np.nan, np.inf, -np.inf]))
    assert values.to_pylist() == [1.5, None, None, None]
    output, signals = published(
        store, score=column_bytes(UIDS, values), said=column_bytes(UIDS, pa.array(["a", None, "", "b"]))
    )
    uids, columns = read_signals(output.store, signals, signals.parts[0], ["score", "said"])
    assert uids.equals(UIDS) and columns["said"].to_pylist() == ["a", None, "", "b"]
    assert columns["score"].dtype == np.float32 and np.isnan(columns["score"]).tolist() == [False, True, True, True]


def test_embeddings_come_back_as_they_were_with_what_made_them(store: Store) -> None:
    data = column_bytes(UIDS, vectors(EMBEDDED), {"model": "m", "weights_sha256": "f" * 64})
    assert pq.read_schema(io.BytesIO(data)).metadata == {b"model": b"m", b"weights_sha256": b"f" * 64}
    output, signals = published(store, image_embedding=data)
    uids, rows = load_embeddings(output, signals, signals.parts[0], "image_embedding")
    assert uids == UIDS.to_pylist() and rows.dtype == np.float16
    np.testing.assert_array_equal(rows, EMBEDDED)
    nothing = vectors(np.zeros((0, 0), np.float16))
    assert nothing.type == vectors(EMBEDDED).type and vectors(np.zeros((2, 0), np.float16)).null_count == 2


@pytest.mark.parametrize(
    ("uids", "values", "says"),
    [
        (UIDS[:3], vectors(EMBEDDED[:3]), "holds 3 rows for 4 samples"),
        (UIDS.take(pa.array([1, 0, 2, 3])), vectors(EMBEDDED), "not in their order"),
        (UIDS, pa.array([[1.0], [1.0, 2.0], None, None], pa.list_(pa.float16())), "rows of .*1.*2.* numbers"),
        (UIDS, numbers(np.zeros(4)), "is float, no embedding"),
    ],
)
def test_embeddings_of_other_rows_are_refused(store: Store, uids: pa.Array, values: pa.Array, says: str) -> None:
    output, signals = published(store, image_embedding=column_bytes(uids, values))
    with pytest.raises(ManifestError, match=says):
        load_embeddings(output, signals, signals.parts[0], "image_embedding")


def test_signals_of_other_rows_and_signals_that_nobody_scored_are_refused(store: Store) -> None:
    shuffled = UIDS.take(pa.array([1, 0, 2, 3]))
    column = numbers(np.zeros(4))
    output, signals = published(store, a=column_bytes(UIDS, column), b=column_bytes(shuffled, column))
    with pytest.raises(ManifestError, match="signal b of signals/own@v1 part 000000 names other rows"):
        read_signals(output.store, signals, signals.parts[0], ["a", "b"])
    with pytest.raises(ManifestError, match="has no 'c', only a, b; stage score writes it"):
        read_signals(output.store, signals, signals.parts[0], ["c"])
