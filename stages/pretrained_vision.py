"""Start from a trained vision tower: an InternViT in files, in whatever layout it is."""

from pathlib import Path

from models.config import VisionConfig
from models.intern_vit import InternVisionModel
from models.layouts import from_layout
from models.renaming import fill
from stages.manifest import ManifestError
from stages.materialize import difference
from stages.model_files import open_source

FREE = ("image_size", "initializer_factor", "drop_path_rate", "drop_path_schedule", "layer_norm_eps")
"""What may differ: positions are interpolated, layer scales learned, stochastic depth is the recipe's
and eps stays the file's."""


def started(name: str, wanted: VisionConfig) -> InternVisionModel:
    """Return the vision tower of a folder or `.pth`, ready to be trained further at another picture size.

    Args:
        name: A folder with config.json and safetensors, official, ours or transformers' own; or a `.pth`.
        wanted: Shape and stochastic depth as the stage trains it.

    Raises:
        ManifestError: There is none, or one of another shape.
    """
    path = Path(name).expanduser()
    try:
        source = open_source(path)
        found = source.config
        if not isinstance(found, VisionConfig):
            raise ValueError("it is no InternViT alone; `internvl convert` takes one out of no other model")
        lines = difference(found.model_dump(exclude=set(FREE)), wanted.model_dump(exclude=set(FREE)))
        if lines:
            raise ValueError(
                f"its shape is another one than contrastive trains (its -> ours): {'; '.join(lines)}; set these "
                "parameters of contrastive to its values"
            )
        kept = {"image_size": found.image_size, "layer_norm_eps": found.layer_norm_eps}
        model = InternVisionModel(wanted.model_copy(update=kept))
        fill(model, from_layout(source.layout, source.weights, found, source.decoder), "InternViT")
    except (ValueError, FileNotFoundError) as error:
        raise ManifestError(f"contrastive.start_vision {path} cannot be taken: {error}") from error
    if found.image_size != wanted.image_size:
        model.resize_position_embedding(wanted.image_size)
    return model
