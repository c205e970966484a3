"""The vision tower inside a checkpoint, whatever else it holds."""

import json
from pathlib import Path

from models.config import VisionConfig
from models.intern_vit import InternVisionModel
from models.renaming import below, fill
from stages.weight_files import open_weights


def vision_tower(folder: Path, what: str) -> InternVisionModel:
    """Return the vision tower of a fetched checkpoint: an encoder alone, InternVL-C or -G, or a chat model.

    Args:
        folder: Where the checkpoint lies.
        what: Names it in errors.

    Returns:
        The tower in full depth: no block is dropped at random.

    Raises:
        ManifestError: Its weights are not those that its configuration describes.
    """
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vision"]
    tower = InternVisionModel(VisionConfig.model_validate({**told, "drop_path_rate": 0.0}))
    weights = open_weights(folder)
    fill(tower, below(weights, "vision_model.") or weights, what)
    return tower
