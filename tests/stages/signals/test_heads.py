"""Heads against plain arithmetic, and files that are none."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages.manifest import ManifestError
from stages.signals.heads import read_heads

RNG = np.random.default_rng(0)


def layer(out: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(size=(out, width)).astype(np.float32), RNG.normal(size=out).astype(np.float32)


def write(path: Path, layers: dict[str, np.ndarray], **said: str) -> dict[str, str]:
    save_file(layers, path, said or None)
    return {"aesthetic": str(path)}


def test_a_linear_head_is_one_product_and_nan_stays_nan(tmp_path: Path) -> None:
    weight, bias = layer(1, 8)
    (head,) = read_heads(write(tmp_path / "a.safetensors", {"weight": weight, "bias": bias}))
    rows = RNG.normal(size=(5, 8)).astype(np.float32)
    rows[2] = np.nan
    found = head(rows)
    np.testing.assert_allclose(found[[0, 1, 3, 4]], (rows @ weight[0] + bias)[[0, 1, 3, 4]], rtol=1e-5)
    assert np.isnan(found[2]) and len(head.sha256) == 64 and head.name == "aesthetic"


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_layers_follow_each_other_by_number(tmp_path: Path, activation: str) -> None:
    # Ten comes after two, which is not the order of their names.
    names = ("layers.0", "layers.2", "layers.10")
    layers = [layer(4, 8), layer(3, 4), layer(1, 3)]
    named = {f"{name}.{what}": each for name, both in zip(names, layers, strict=True)
             for what, each in zip(("weight", "bias"), both, strict=True)}  # fmt: skip
    given = write(tmp_path / "a.safetensors", named, activation=activation, output="sigmoid")
    rows = RNG.normal(size=(6, 8)).astype(np.float32)
    wanted = rows
    for number, (weight, bias) in enumerate(layers):
        wanted = (np.maximum(wanted, 0) if number and activation == "relu" else wanted) @ weight.T + bias
    np.testing.assert_allclose(read_heads(given)[0](rows), 1 / (1 + np.exp(-wanted[:, 0])), rtol=1e-4)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ({"0.weight": layer(4, 8)[0], "2.weight": layer(1, 5)[0]}, r"layer 2 .*shape \(1, 5\), not \(any, 4\)"),
        ({"weight": layer(2, 8)[0]}, "gives 2 numbers per picture; a head gives one"),
        ({"weight": layer(1, 8)[0], "bias": np.zeros(2, np.float32)}, r"bias of shape \(2,\)"),
        ({"weight": np.full((1, 8), np.nan, np.float32)}, "or a NaN"),
        ({"bias": np.zeros(1, np.float32)}, "weight of shape None"),
        ({"weight": np.zeros(8, np.float32)}, r"weight of shape \(8,\)"),
        ({"visual.proj": np.zeros((1, 8), np.float32)}, "holds 'visual.proj'; a head is"),
    ],
)
def test_what_is_no_head_is_refused(tmp_path: Path, layers: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        read_heads(write(tmp_path / "a.safetensors", layers))


def test_a_missing_file_a_foreign_one_and_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"head unsafe: there is no file .*absent"):
        read_heads({"unsafe": str(tmp_path / "absent")})
    (tmp_path / "x").write_bytes(b"pickle" * 10)
    with pytest.raises(ManifestError, match="is no safetensors file"):
        read_heads({"unsafe": str(tmp_path / "x")})
    with pytest.raises(ManifestError, match="says activation 'gelu'; it may be none or relu"):
        read_heads(write(tmp_path / "a", {"weight": layer(1, 8)[0]}, activation="gelu"))
    (head,) = read_heads(write(tmp_path / "b", {"weight": layer(1, 8)[0]}))
    with pytest.raises(ManifestError, match=r"embeddings of 8 numbers and the scoring model gives 4; .*clip_model"):
        head(np.zeros((2, 4), np.float32))
