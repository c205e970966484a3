"""Checkpoints of tests lie in shards, so that whatever reads one reads what a large model leaves."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from stages.weight_files import INDEX, on_meta, write_weights


def in_shards(weights: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Return weights as at least two safetensors files and their index, name to bytes."""
    most = sum(value.nbytes for value in weights.values()) // 2
    with tempfile.TemporaryDirectory() as folder:
        files = {
            path.name: path.read_bytes()
            for path, _ in write_weights(weights, on_meta(weights), Path(folder), shard_bytes=most)
        }
    assert INDEX in files
    return files
