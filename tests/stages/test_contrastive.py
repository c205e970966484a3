"""The contrastive stage on drawn pictures: what is trained, on which samples, and what it leaves behind."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training_data import make_language, make_shards

from infra.cluster import InlineCluster
from infra.storage import Store
from models.config import INTERN_VIT_6B_224, InternVLConfig
from models.internvl import InternVL
from models.learning_rates import decays
from stages.checkpoints import fetch
from stages.contrastive import ContrastiveTask, Parameters, build
from stages.contrastive_parameters import paper_parameters
from stages.manifest import Manifest, ManifestError
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.weight_files import open_weights
from stages.workspace import Workspace

SMALL = {"patch_size": 12, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "embed_dim": 16}
GIVEN = {
    **SMALL,
    "held_out_share": 0.3,
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
    task = build(Parameters.model_validate({**GIVEN, **given}), Workspace(store, InlineCluster(), folder, inputs))
    assert isinstance(task, ContrastiveTask)
    return task


def test_the_checkpoint_is_internvl_c_under_official_names(made: Store, trained: Manifest, tmp_path: Path) -> None:
    files = fetch(made, trained, tmp_path / "c")
    config = InternVLConfig.model_validate_json((files / "config.json").read_text())
    weights = open_weights(files)
    model = InternVL.from_state(config, weights)
    assert not model.generative and (files / "tokenizer.json").exists()
    language = make_language(Store(str(tmp_path / "again")))
    start = open_weights(fetch(Store(str(tmp_path / "again")), language, tmp_path / "l"))
    assert torch.equal(weights["qllama.lm_head.weight"], start["lm_head.weight"]), "carried along unchanged"
    moved = [name for name in start if not torch.equal(weights[f"qllama.{name}"], start[name])]
    assert set(moved) == set(start) - {"lm_head.weight"}


def test_it_learns_the_pairs_and_says_what_guessing_gives(made: Store, trained: Manifest, tmp_path: Path) -> None:
    metrics = trained.totals
    assert metrics["last_loss"] < 0.9 * math.log(16), "a batch of 16 that nobody can tell apart costs log 16"
    assert metrics["held_out"] == 16 and 1 / 16 <= metrics["recall_at_1_chance"] < 2 / 16
    assert 0 <= metrics["recall_at_1_image_to_text"] <= 1
    assert metrics["language_loss_before"] > 0 and metrics["language_loss_after"] > 0


def test_what_is_kept_aside_is_never_trained_on(made: Store, tmp_path: Path) -> None:
    task = task_of(made, tmp_path)
    (source,) = task.samples
    assert source.shards == (25, 6) and len(task.held_out) == 16, "31 of 48, in shards of 40 and 8"
    aside = set(task.batches.pictures(48).ids(task.held_out).tolist())
    taught = task.batches(range(source.samples), 0)["image_id"].tolist()
    assert len(taught) == 31 and aside.isdisjoint(taught)
    assert {task.batches.facts(row).uid for row in range(31)} == {
        task.batches.samples.keys[r] for r in task.batches.rows
    }
    with pytest.raises(ManifestError, match=r"held_out_share 1 keeps the pictures of all .* lower held_out_share"):
        task_of(made, tmp_path / "all", held_out_share=1 - 1e-9)
    with pytest.raises(ManifestError, match="raise held_out_share, in all stages alike"):
        task_of(made, tmp_path / "none", held_out_share=0)
    whole = task_of(made, tmp_path / "whole", held_out_share=0, held_out=0)
    assert whole.samples[0].samples == 48 and whole.held_out == []


def test_the_text_tower_learns_slowly_and_its_head_not_at_all(made: Store, tmp_path: Path) -> None:
    task = task_of(made, tmp_path, patch_learning_rate_scale=0.5)
    found = {id(p): group for group in task.groups(0.1) for p in group["params"]}
    for name, parameter in task.model.named_parameters():
        if name == "qllama.lm_head.weight":
            assert id(parameter) not in found
            continue
        group = found[id(parameter)]
        patches = name.startswith("vision_model.embeddings.patch_embedding")
        assert group["scale"] == (0.2 if name.startswith("qllama.") else 0.5 if patches else 1.0), name
        assert group["weight_decay"] == (0.1 if decays(name, parameter) else 0.0), name
    frozen = task_of(made, tmp_path / "frozen", text_learning_rate_scale=0)
    assert not any(p.requires_grad for p in frozen.model.qllama.parameters())


def test_the_first_weights_depend_on_the_seed_alone(made: Store, tmp_path: Path) -> None:
    schedule = GIVEN["schedule"]
    assert isinstance(schedule, dict)
    tasks = []
    for number, (drawn, seed) in enumerate([(0, 0), (5, 0), (0, 1)]):
        torch.manual_seed(100 + drawn)
        tasks.append(task_of(made, tmp_path / str(number), schedule={**schedule, "seed": seed}).model.state_dict())
        assert torch.initial_seed() == 100 + drawn, "the process's own random state is left as it was"
    one, same, other = tasks
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["text_projection"], other["text_projection"])


def test_the_papers_values_are_its_sizes_and_its_switch() -> None:
    paper = paper_parameters()
    assert (
        paper.vision().model_copy(update={"drop_path_rate": 0.0, "drop_path_schedule": "linear"}) == INTERN_VIT_6B_224
    )
    views, steps = paper.views(), paper.schedule.steps
    masked, whole = views(0), views(steps - 1)
    assert (masked.image_size, masked.grid, masked.kept) == (196, 14, 98)
    assert (whole.image_size, whole.grid, whole.mask_ratio) == (224, 16, 0)
    last = sum(views(step) == whole for step in range(steps)) * paper.schedule.global_batch_size
    assert 0.5e9 <= last < 0.5e9 + paper.schedule.global_batch_size
    assert 28.6e9 < steps * paper.schedule.global_batch_size < 28.8e9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patch_size": 10}, "image_size 48 does not divide into patches"),
        ({"masked_image_size": 40}, "masked_image_size 40 does not divide into patches"),
        ({"mask_ratio": 0.5, "unmasked_steps": 31}, "unmasked_steps 31 are more than the 30 steps"),
        ({"unmasked_steps": 3}, "unmasked_steps 3 end nothing"),
        ({"num_attention_heads": 5}, "num_attention_heads 5"),
        ({"attn_pool_num_heads": 7}, "attn_pool_num_heads 7"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(made: Store, tmp_path: Path, given: dict[str, int], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        task_of(made, tmp_path, **given)
