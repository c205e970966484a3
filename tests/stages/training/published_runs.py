"""Two processes that publish a model which lay in shards over them, as files of a few hundred bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from placed_runs import train_whole
from torch import Tensor

from stages.manifest import ManifestError
from stages.training import publishing
from stages.weight_files import writing_order

SHARD_BYTES = 300
NO_ROOM = 3
"""How a process ends whose training was refused because there is no room for the weights."""


def publish_whole(folder: Path, full: bool) -> int:
    """Train in shards to a published checkpoint; with `full` there is room for two tensors alone."""
    publishing.SHARD_BYTES = SHARD_BYTES

    def fail(weights: Mapping[str, Tensor], described: Mapping[str, Tensor], *_: Any) -> Any:
        for name in writing_order(described, SHARD_BYTES)[:2]:
            weights[name]
        raise OSError(28, "No space left on device")

    if full:
        publishing.write_weights = fail
    try:
        train_whole(folder, "fsdp2")
    except ManifestError as error:
        return NO_ROOM if "No space left" in str(error) else 1
    return 0
