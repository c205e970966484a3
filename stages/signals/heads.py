"""Small heads on picture embeddings: aesthetic, unsafe, watermark, or what a user trained.

A head is a safetensors file of linear layers, `weight` and `bias`, or `0.weight`, `0.bias`, `2.weight` ...
applied in the order of their numbers, as LAION's predictors are. Its metadata may say `activation: relu`
(between layers) and `output: sigmoid`; without them layers follow each other plainly.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.storage import sha256_file
from stages.manifest import ManifestError

Floats = npt.NDArray[np.float32]

_NAME = re.compile(r"^(?:(?:.*\.)?(\d+)\.)?(weight|bias)$")
_CHOICES = {"activation": ("none", "relu"), "output": ("none", "sigmoid")}


@dataclass(frozen=True)
class Head:
    """A head that is safe to send to workers."""

    name: str
    sha256: str
    layers: tuple[tuple[Floats, Floats], ...]
    activation: str = "none"
    output: str = "none"

    def __call__(self, embeddings: Floats) -> Floats:
        """Return one number per embedding, shape (samples,); NaN stays NaN.

        Raises:
            ManifestError: Embeddings have another width than the head was made for.
        """
        width = self.layers[0][0].shape[1]
        if embeddings.shape[1] != width:
            raise ManifestError(
                f"head {self.name} is for embeddings of {width} numbers and the scoring model gives "
                f"{embeddings.shape[1]}; name the CLIP it was trained on in score.clip_model"
            )
        found: npt.NDArray[Any] = embeddings
        for number, (weight, bias) in enumerate(self.layers):
            if number and self.activation == "relu":
                found = np.maximum(found, 0)
            found = found @ weight.T + bias
        if self.output == "sigmoid":
            found = np.float32(1) / (np.float32(1) + np.exp(-np.clip(found, -60, 60)))
        return np.asarray(found[:, 0], dtype=np.float32)


def read_heads(paths: Mapping[str, str]) -> tuple[Head, ...]:
    """Return all heads, sorted by name.

    Raises:
        ManifestError: A file is missing, is no safetensors file, or its layers do not fit each other.
    """
    return tuple(_read(name, Path(path)) for name, path in sorted(paths.items()))


def _read(name: str, path: Path) -> Head:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ManifestError(f"head {name}: there is no file {path}; give the path of its safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            said = file.metadata() or {}
    except SafetensorError as error:
        raise ManifestError(f"head {name}: {path} is no safetensors file: {error}; convert it first") from error
    for key, allowed in _CHOICES.items():
        if said.get(key, "none") not in allowed:
            raise ManifestError(f"head {name}: {path} says {key} {said[key]!r}; it may be {' or '.join(allowed)}")
    return Head(
        name,
        sha256_file(path),
        _layers(name, path, tensors),
        said.get("activation", "none"),
        said.get("output", "none"),
    )


def _layers(name: str, path: Path, tensors: Mapping[str, Any]) -> tuple[tuple[Floats, Floats], ...]:
    found: dict[int, dict[str, Floats]] = {}
    for key, tensor in tensors.items():
        match = _NAME.match(key)
        if not match:
            raise ManifestError(f"head {name}: {path} holds {key!r}; a head is weight and bias of linear layers")
        found.setdefault(int(match[1] or 0), {})[match[2]] = np.asarray(tensor, dtype=np.float32)
    layers = []
    width: int | None = None
    for number, each in sorted(found.items()):
        weight = each.get("weight")
        if weight is None or weight.ndim != 2 or (width is not None and weight.shape[1] != width):
            shape = None if weight is None else weight.shape
            raise ManifestError(
                f"head {name}: layer {number} of {path} has a weight of shape {shape}, "
                f"not (any, {'any' if width is None else width}); it does not follow the layer before"
            )
        bias = each.get("bias", np.zeros(len(weight), dtype=np.float32))
        if bias.shape != (len(weight),) or not np.isfinite(weight).all() or not np.isfinite(bias).all():
            raise ManifestError(f"head {name}: layer {number} of {path} has a bias of shape {bias.shape} or a NaN")
        layers.append((weight, bias))
        width = len(weight)
    if width != 1:
        raise ManifestError(f"head {name}: {path} gives {width or 'no'} numbers per picture; a head gives one")
    return tuple(layers)
