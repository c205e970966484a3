"""The contrastive stage on drawn pictures: what is trained, on which samples, and what it leaves behind."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_data import make_language, make_shards

from infra.cluster import InlineCluster
from infra.storage import Store
from models.config import InternVLConfig
from models.internvl import InternVL
from stages.checkpoints import fetch
from stages.contrastive import ContrastiveTask, Parameters, _build, retrieval
from stages.manifest import Manifest, ManifestError
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.workspace import Workspace

SMALL = {"patch_size": 12, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "embed_dim": 16}
GIVEN = {
    **SMALL,
    "held_out": 16,
    "schedule": {"global_batch_size": 16, "steps": 30, "learning_rate": 0.01, "warmup_steps": 3},
}
INPUTS = ("shards/clean", "checkpoints/language")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_shards(store, samples=48)
    make_language(store)
    yield store


@pytest.fixture(scope="module")
def trained(made: Store) -> Manifest:
    refs = tuple(Ref(name=name, version="t") for name in INPUTS)
    ref = Ref(name="checkpoints/contrastive", version="t")
    spec = StageSpec(stage="contrastive", artifact=ref, parameters=GIVEN, inputs=refs)
    return materialize(spec, made, InlineCluster())


def task_of(store: Store, folder: Path, **given: object) -> ContrastiveTask:
    from stages.manifest import load

    inputs = {name: load(store, Ref(name=name, version="t")) for name in INPUTS}
    torch.manual_seed(0)
    task = _build(Parameters.model_validate({**GIVEN, **given}), Workspace(store, InlineCluster(), folder, inputs))
    assert isinstance(task, ContrastiveTask)
    return task


def test_the_checkpoint_is_internvl_c_under_official_names(made: Store, trained: Manifest, tmp_path: Path) -> None:
    files = fetch(made, trained, tmp_path / "c")
    config = InternVLConfig.model_validate_json((files / "config.json").read_text())
    weights = load_file(files / "model.safetensors")
    model = InternVL.from_state(config, weights)
    assert not model.generative and (files / "tokenizer.json").exists()
    language = make_language(Store(str(tmp_path / "again")))
    start = load_file(fetch(Store(str(tmp_path / "again")), language, tmp_path / "l") / "model.safetensors")
    assert torch.equal(weights["qllama.lm_head.weight"], start["lm_head.weight"]), "carried along unchanged"
    moved = [name for name in start if not torch.equal(weights[f"qllama.{name}"], start[name])]
    assert set(moved) == set(start) - {"lm_head.weight"}


def test_it_learns_the_pairs_and_says_what_guessing_gives(made: Store, trained: Manifest, tmp_path: Path) -> None:
    metrics = trained.totals
    assert metrics["last_loss"] < 0.9 * math.log(16), "a batch of 16 that nobody can tell apart costs log 16"
    assert metrics["held_out"] == 16 and 1 / 16 <= metrics["recall_at_1_chance"] < 2 / 16
    assert 0 <= metrics["recall_at_1_image_to_text"] <= 1
    assert metrics["language_loss_before"] > 0 and metrics["language_loss_after"] > 0


def test_the_last_samples_are_never_trained_on(made: Store, tmp_path: Path) -> None:
    task = task_of(made, tmp_path)
    assert task.samples == 32 and task.held_out == list(range(32, 48))
    with pytest.raises(ManifestError, match="48 samples and 48 are to be kept aside"):
        task_of(made, tmp_path / "all", held_out=48)


def test_the_text_tower_learns_slowly_and_its_head_not_at_all(made: Store, tmp_path: Path) -> None:
    task = task_of(made, tmp_path)
    scales = {id(p): group["scale"] for group in task.groups(0.1) for p in group["params"]}
    for name, parameter in task.model.named_parameters():
        if name == "qllama.lm_head.weight":
            assert id(parameter) not in scales
        else:
            assert scales[id(parameter)] == (0.2 if name.startswith("qllama.") else 1.0), name
    frozen = task_of(made, tmp_path / "frozen", text_learning_rate_scale=0)
    assert not any(p.requires_grad for p in frozen.model.qllama.parameters())


def test_a_batch_is_a_function_of_rows_and_step(made: Store, tmp_path: Path) -> None:
    given = {"mask_ratio": 0.5, "smallest_crop": 0.6, "schedule": {**GIVEN["schedule"], "steps": 10}}  # type: ignore[dict-item]
    one, other = task_of(made, tmp_path / "1", **given), task_of(made, tmp_path / "2", **given)
    rows = [5, 3, 30, 11]
    other.batches([3, 7], 1)
    whole = one.batches(rows, 4)
    again = other.batches(rows, 4)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    half = other.batches(rows[2:], 4)
    for name in ("pixel_values", "keep_patches"):
        assert torch.equal(whole[name][2:], half[name]), "a process's share does not depend on the others'"
    later = one.batches(rows, 5)
    assert not torch.equal(later["keep_patches"], whole["keep_patches"])
    assert not torch.equal(later["pixel_values"], whole["pixel_values"])


def test_masking_shows_a_share_and_ends_before_the_end(made: Store, tmp_path: Path) -> None:
    task = task_of(made, tmp_path, mask_ratio=0.25, unmasked_steps=10)
    kept = task.batches([0, 1, 2], 0)["keep_patches"]
    assert kept.shape == (3, 12)  # 16 patches
    assert all(len(set(row.tolist())) == 12 and row.tolist() == sorted(row.tolist()) for row in kept)
    assert "keep_patches" in task.batches([0], 19) and "keep_patches" not in task.batches([0], 20)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patch_size": 10}, "does not divide into patches"),
        ({"num_attention_heads": 5}, "num_attention_heads 5"),
        ({"attn_pool_num_heads": 7}, "attn_pool_num_heads 7"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(made: Store, tmp_path: Path, given: dict[str, int], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        task_of(made, tmp_path, **given)


def test_retrieval_counts_equal_captions_as_right() -> None:
    unit = torch.eye(4)
    perfect = retrieval(unit, unit, torch.arange(4))
    assert perfect["recall_at_1_image_to_text"] == perfect["recall_at_1_text_to_image"] == 1
    assert perfect["recall_at_1_chance"] == 0.25
    crossed = unit[[1, 0, 2, 3]]
    assert retrieval(unit, crossed, torch.arange(4))["recall_at_1_image_to_text"] == 0.5
    assert retrieval(unit, crossed, torch.tensor([9, 9, 2, 3]))["recall_at_1_text_to_image"] == 1
