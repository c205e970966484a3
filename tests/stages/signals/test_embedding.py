"""What clip-retrieval writes is taken only whole, and rows go to their keys."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.manifest import ManifestError
from stages.signals.embedding import aligned, read_embedded, unit


def written(folder: Path, keys: list[str], images: np.ndarray, texts: np.ndarray | None = None) -> Path:
    for name, rows in (("img_emb", images), ("text_emb", texts)):
        (folder / name).mkdir(parents=True)
        if rows is not None:
            np.save(folder / name / f"{name}_0.npy", rows, allow_pickle=True)
    (folder / "metadata").mkdir()
    pq.write_table(pa.table({"image_path": keys}), folder / "metadata" / "metadata_0.parquet")
    return folder


ROWS = np.arange(12).reshape(3, 4).astype(np.float16)


def test_rows_come_with_their_keys(tmp_path: Path) -> None:
    found = read_embedded(written(tmp_path, ["c", "a", "b"], ROWS, ROWS + 1), text=True)
    assert found.keys == ["c", "a", "b"] and found.images.dtype == np.float16
    assert found.texts is not None and (found.texts == ROWS + 1).all()
    rows = aligned(found.images, found.keys, ["a", "b", "broken", "c"])
    assert (rows[[0, 1, 3]] == ROWS[[1, 2, 0]]).all() and np.isnan(rows[2]).all()


@pytest.mark.parametrize("dropped", ["picture", "caption"])
def test_a_dropped_row_is_refused(tmp_path: Path, dropped: str) -> None:
    images, texts = (ROWS[:2], ROWS) if dropped == "picture" else (ROWS, ROWS[:2])
    with pytest.raises(ManifestError, match=f"2 {dropped} embeddings for 3 keys; refusing to guess rows"):
        read_embedded(written(tmp_path, ["a", "b", "c"], images, texts), text=True)


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    with pytest.raises(ManifestError, match="img_emb of clip-retrieval is no plain array"):
        read_embedded(written(tmp_path, ["a"], np.array([Trap()], dtype=object)), text=False)
    assert not (tmp_path / "sprung").exists()


def test_a_name_given_twice_or_to_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="named a sample twice"):
        read_embedded(written(tmp_path, ["a", "b", "a"], ROWS), text=False)
    with pytest.raises(ManifestError, match="sample c has a picture and no outcome; verify the pool"):
        aligned(ROWS, ["a", "b", "c"], ["a", "b"])


def test_nothing_readable_is_no_rows(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    found = read_embedded(tmp_path, text=True)
    assert found.keys == [] and found.images.shape == (0, 0)
    assert aligned(found.images, [], ["a"]).shape == (1, 0)


def test_rows_are_of_unit_length_or_of_none() -> None:
    assert np.linalg.norm(unit(ROWS + 1), axis=1) == pytest.approx(1)
    assert unit(np.zeros((2, 3), np.float16)).tolist() == [[0.0] * 3] * 2
