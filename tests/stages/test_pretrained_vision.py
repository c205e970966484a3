"""A contrastive stage that starts from a trained vision tower: the same picture features, or a refusal."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_contrastive import made, task_of

from infra.storage import Store
from models.config import VisionConfig
from models.intern_vit import InternVisionModel
from models.native_config import native_vision_config
from models.official_config import official_vision_config
from models.weights import vision_to_native
from stages.manifest import ManifestError
from stages.pretrained_vision import started

__all__ = ["made"]  # the fixture: shards and a language model in a store
WANTED = VisionConfig(
    image_size=48, patch_size=12, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=48,
    initializer_factor=1.0, drop_path_schedule="uniform",
)  # fmt: skip


def write(folder: Path, whose: str, **changes: Any) -> InternVisionModel:
    config = WANTED.model_copy(update={"initializer_factor": 0.1, "drop_path_schedule": "linear", **changes})
    torch.manual_seed(1)
    model = InternVisionModel(config).eval()
    folder.mkdir()
    weights = model.state_dict()
    fields = native_vision_config(config) if whose == "native" else official_vision_config(config)
    save_file(dict(vision_to_native(weights)) if whose == "native" else weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(fields))
    return model


@pytest.mark.parametrize("whose", ["official", "native"])
def test_the_first_step_sees_what_the_trained_tower_saw(made: Store, tmp_path: Path, whose: str) -> None:
    theirs = write(tmp_path / "given", whose)
    task = task_of(made, tmp_path / "run", start_vision=str(tmp_path / "given"))
    pictures = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        ours = task.model.vision_model.eval()(pictures)
        torch.testing.assert_close(ours.last_hidden_state, theirs(pictures).last_hidden_state)
        fresh = task_of(made, tmp_path / "fresh").model.vision_model.eval()(pictures)
    assert not torch.allclose(fresh.last_hidden_state, ours.last_hidden_state, atol=1e-2)
    assert task.model.vision_model.config == task.config.vision
    assert all(value.requires_grad for value in task.model.vision_model.parameters())


def test_the_checkpoint_says_the_eps_that_the_tower_was_trained_with(made: Store, tmp_path: Path) -> None:
    write(tmp_path / "given", "official", layer_norm_eps=0.25)
    task = task_of(made, tmp_path / "run", start_vision=str(tmp_path / "given"))
    assert task.model.vision_model.config.layer_norm_eps == 0.25
    assert json.loads(task.finish().files["config.json"])["vision"]["layer_norm_eps"] == 0.25
    assert task.config == task.model.config


def test_positions_are_interpolated_to_another_size(made: Store, tmp_path: Path) -> None:
    theirs = write(tmp_path / "given", "official", image_size=72)
    task = task_of(made, tmp_path / "run", start_vision=str(tmp_path / "given"), drop_path_rate=0.1)
    vision = task.model.vision_model
    assert vision.embeddings.position_embedding.shape == (1, 17, 24) and vision.config == task.config.vision
    assert torch.equal(vision.embeddings.position_embedding[:, 0], theirs.embeddings.position_embedding[:, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 48}, r"hidden_size: 48 -> 24"),
        (
            {"norm_type": "layer_norm", "qk_normalization": False, "qkv_bias": True},
            r"norm_type: layer_norm -> rms_norm; qk_normalization: false -> true; qkv_bias: true -> false; set these",
        ),
    ],
)
def test_another_shape_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write(tmp_path / "given", "official", **changes)
    with pytest.raises(ManifestError, match=message):
        started(str(tmp_path / "given"), WANTED)
    assert started(str(tmp_path / "given"), WANTED.model_copy(update=changes)).config.hidden_size


def test_what_is_no_vision_tower_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"start_vision .*nothing cannot be taken: .*nothing is missing"):
        started(str(tmp_path / "nothing"), WANTED)
    write(tmp_path / "given", "official")
    (tmp_path / "given" / "config.json").write_text(json.dumps({"text": {}}))
    with pytest.raises(ManifestError, match="cannot be taken"):
        started(str(tmp_path / "given"), WANTED)
