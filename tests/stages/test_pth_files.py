"""`.pth` files: written one tensor at a time as torch.save writes them, and never unpickled."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from models.renaming import WeightsError
from stages.pth_files import open_pth, write_pth
from stages.weight_files import on_meta, open_weights

WEIGHTS = {
    "a.weight": torch.arange(6.0).view(2, 3),
    "b": torch.tensor(2.5),
    "c": torch.tensor([[1.5], [-2.0], [3.0]], dtype=torch.bfloat16),
    "d": torch.tensor([7.0, -8.0, 9.0], dtype=torch.float16),
    "e": torch.tensor([1 / 3], dtype=torch.float64),
    "f": torch.zeros(0, 4),
}


@pytest.mark.parametrize("mapped", [False, True])
def test_what_is_written_is_what_torch_would_have_written(tmp_path: Path, mapped: bool) -> None:
    transposed = {**WEIGHTS, "t": torch.arange(12.0).view(3, 4).T}
    path = write_pth(transposed, on_meta(transposed), tmp_path / "new" / "a.pth")
    found = torch.load(path, weights_only=True, mmap=mapped)
    assert type(found) is dict and list(found) == list(transposed)
    for name, value in transposed.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name
        assert found[name].is_contiguous() and found[name].data_ptr() % 64 == 0
    torch.save({name: value.contiguous() for name, value in transposed.items()}, tmp_path / "b.pth")
    theirs = torch.load(tmp_path / "b.pth", weights_only=True)
    assert {name: value.stride() for name, value in found.items()} == {n: v.stride() for n, v in theirs.items()}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    assert not list(tmp_path.rglob("*.partial"))
    again = write_pth(open_pth(path), on_meta(transposed), tmp_path / "c.pth")
    assert again.read_bytes() == path.read_bytes()


def test_what_is_not_as_described_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'b' turned out as"):
        write_pth(WEIGHTS, {**on_meta(WEIGHTS), "b": torch.empty(2, device="meta")}, tmp_path / "a.pth")
    numbers = {"n": torch.tensor([1]), "m": torch.tensor([True])}
    with pytest.raises(WeightsError, match=r"'n' has the type torch.int64; weight 'm' has the type torch.bool"):
        write_pth(numbers, on_meta(numbers), tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_parts_of_larger_tensors_and_other_strides_are_read(tmp_path: Path) -> None:
    whole = torch.arange(24.0).view(4, 6)
    given = {
        "whole": whole, "tied": whole, "rows": whole[1:3], "column": whole[:, 2], "turned": whole.T,
        "wide": whole[0, :1].expand(5), "parameter": torch.nn.Parameter(whole * 2), "count": torch.tensor([3, 4]),
        "last": whole[3, 5],
    }  # fmt: skip
    torch.save(given, tmp_path / "a.pth")
    found = open_pth(tmp_path / "a.pth")
    assert list(found) == list(given) and len(found) == 9 and "rows" in found and "other" not in found
    for name, value in given.items():
        assert torch.equal(found[name], value), name
        assert found[name].untyped_storage().nbytes() <= 24 * 4, "no more is read than is asked for"
    assert found["rows"].untyped_storage().nbytes() == 2 * 6 * 4
    described = on_meta(found)
    assert all(described[name].shape == value.shape and described[name].is_meta for name, value in given.items())


def test_the_other_byte_order_is_refused(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("/byteorder") else old.read(name))
    with pytest.raises(WeightsError, match="in the byte order big"):
        open_pth(tmp_path / "b.pth")


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    path = write_pth(WEIGHTS, on_meta(WEIGHTS), tmp_path / "a.pth")
    opened = open_pth(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"a\.pth is no whole PyTorch file; fetch it again"):
        open_pth(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(WeightsError, match=r"a\.pth ends within the weight 'e'"):
        opened["e"]
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"a\.pth is no whole PyTorch file"):
        open_pth(path)


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    torch.save({"cls_token": torch.zeros(1), "x": Harm(tmp_path / "made")}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="holds more than tensors"):
        open_weights(tmp_path / "a.pth")
    assert not (tmp_path / "made").exists()
    torch.save({"cls_token": torch.zeros(1), "epoch": 3}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="'epoch' is no tensor"):
        open_weights(tmp_path / "b.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps({"x": Harm(tmp_path / "made")}, protocol=2))
    with pytest.raises(WeightsError, match="holds more than tensors"):
        open_weights(tmp_path / "raw.pth")
    assert not (tmp_path / "made").exists()
    torch.save([torch.zeros(1)], tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="holds a list"):
        open_weights(tmp_path / "c.pth")
