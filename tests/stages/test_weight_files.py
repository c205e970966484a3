"""Weights in safetensors files: read and written tensor by tensor, in shards."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from infra.storage import sha256_file
from models.renaming import WeightsError
from stages.weight_files import INDEX, ONE_FILE, on_meta, open_weights, write_weights


def equal(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> bool:
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


MIXED = {
    "a.weight": torch.arange(6.0).view(2, 3),
    "b": torch.tensor(2.5),
    "c": torch.tensor([[1.5], [-2.0], [3.0]], dtype=torch.bfloat16),
    "d": torch.tensor([7, 8, 9]),
    "e": torch.tensor([True, False, True]),
    "f": torch.zeros(0, 4, dtype=torch.float16),
}


def test_what_is_written_is_read_by_others_and_by_us(tmp_path: Path) -> None:
    written = write_weights(MIXED, on_meta(MIXED), tmp_path)
    assert written == [(tmp_path / ONE_FILE, sha256_file(tmp_path / ONE_FILE))], "hashed on the way"
    assert equal(load_file(tmp_path / ONE_FILE), MIXED)
    ours = open_weights(tmp_path)
    assert equal(dict(ours), MIXED) and len(ours) == 6 and "b" in ours and "x" not in ours
    described = on_meta(ours)
    assert {name: (value.shape, value.dtype) for name, value in described.items()} == {
        name: (value.shape, value.dtype) for name, value in MIXED.items()
    }
    again = tmp_path / "again"
    write_weights(ours, described, again)
    assert (again / ONE_FILE).read_bytes() == (tmp_path / ONE_FILE).read_bytes()


def test_large_models_are_written_in_shards_with_an_index(tmp_path: Path) -> None:
    (tmp_path / ONE_FILE).write_bytes(b"an older model")
    written = write_weights(MIXED, on_meta(MIXED), tmp_path, shard_bytes=30)
    assert [each.path.name for each in written] == [
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
        INDEX,
    ]
    assert not (tmp_path / ONE_FILE).exists() and not list(tmp_path.glob("*.partial"))
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == 24 + 4 + 6 + 24 + 3
    assert all(sha256_file(path) == sha256 for path, sha256 in written)
    for path, _ in written[:3]:
        assert set(load_file(path)) == {name for name, file in index["weight_map"].items() if file == path.name}
    assert equal(dict(open_weights(tmp_path)), MIXED)
    write_weights(MIXED, on_meta(MIXED), tmp_path)
    assert not (tmp_path / INDEX).exists() and equal(dict(open_weights(tmp_path)), MIXED)


def test_shards_that_disagree_with_their_index_are_named_together(tmp_path: Path) -> None:
    write_weights(MIXED, on_meta(MIXED), tmp_path, shard_bytes=30)
    index = json.loads((tmp_path / INDEX).read_text())
    index["weight_map"]["x"] = index["weight_map"].pop("b")
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"'x' is missing in model-0.*'b' of model-0.*is not in the index"):
        open_weights(tmp_path)
    index["weight_map"] = {"y": "../elsewhere.safetensors", "z": "gone.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(
        WeightsError, match=r"'../elsewhere.safetensors' is not beside.*'gone.safetensors' is missing"
    ):
        open_weights(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(WeightsError, match="holds no weight_map"):
        open_weights(tmp_path)


def test_what_is_not_there_or_torn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is missing"):
        open_weights(tmp_path)
    (tmp_path / ONE_FILE).write_bytes(b"\x09")
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        open_weights(tmp_path)
    described = {**on_meta(MIXED), "b": torch.empty(2, device="meta")}
    with pytest.raises(WeightsError, match="'b' turned out as"):
        write_weights(MIXED, described, tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
