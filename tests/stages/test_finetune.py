"""Tuning a finished model for retrieval: it learns, other pictures fit, and what is kept aside stays aside."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training_data import make_language, make_shards, members
from weight_shards import in_shards

from infra.cluster import InlineCluster
from infra.storage import Store
from models.config import InternVLConfig
from models.internvl import InternVL
from stages import checkpoints
from stages.checkpoints import fetch
from stages.finetune import FinetuneTask, Parameters, build, paper_parameters
from stages.manifest import Ledger, Manifest, ManifestError, digest_of, load
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.sources.captions import LANGUAGES, caption
from stages.sources.scenes import Split, sample_scene
from stages.tars import tar_bytes
from stages.weight_files import open_weights
from stages.workspace import Output, Workspace

SMALL = {
    "patch_size": 12,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "embed_dim": 16,
    "held_out_share": 0.3,
    "held_out": 16,
    "schedule": {"global_batch_size": 16, "steps": 10, "learning_rate": 0.01, "warmup_steps": 3},
}
GIVEN = {
    "shards": "shards/several",
    "image_size": 60,
    "held_out_share": 0.25,
    "held_out": 47,
    "schedule": {"global_batch_size": 24, "steps": 40, "learning_rate": 0.003, "warmup_steps": 4, "beta2": 0.99},
}
START = Ref(name="checkpoints/contrastive", version="t")
PAIRS = Ref(name="shards/several", version="t")


def make_several(store: Store, samples: int = 192) -> None:
    """Publish pictures that have a caption in each of three languages, one after the other."""
    assert len(LANGUAGES) == 3
    rows = []
    for number in range(samples):
        language, uid = LANGUAGES[number % 3], f"{number:032x}"
        words = caption(sample_scene(7, number // 3, Split.TRAIN), language, number % 2)
        facts = {"uid": uid, "source": "drawn", "language": language, "caption": words}
        text = {"txt": words.encode(), "json": json.dumps(facts, sort_keys=True).encode()}
        rows.append((uid, {**members(number // 3)[1], **text}))
    output = Output(store, PAIRS, "write_shards", {"samples": samples})
    ledger = Ledger(listed=samples, kept=samples)
    part = output.part("000000", digest_of(samples), ledger, {"tar": ("000000.tar", tar_bytes(rows))})
    output.commit([part])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_shards(store, samples=48)
    make_several(store)
    make_language(store)
    inputs = (Ref(name="shards/clean", version="t"), Ref(name="checkpoints/language", version="t"))
    spec = StageSpec(stage="contrastive", artifact=START, parameters=SMALL, inputs=inputs)
    materialize(spec, store, InlineCluster())
    yield store


@pytest.fixture(scope="module")
def tuned(made: Store) -> Manifest:
    ref = Ref(name=START.name, version="tuned")
    spec = StageSpec(stage="finetune", artifact=ref, parameters=GIVEN, inputs=(PAIRS, START))
    return materialize(spec, made, InlineCluster())


def task_of(store: Store, folder: Path, **given: object) -> FinetuneTask:
    inputs = {ref.name: load(store, ref) for ref in (PAIRS, START)}
    task = build(Parameters.model_validate({**GIVEN, **given}), Workspace(store, InlineCluster(), folder, inputs))
    assert isinstance(task, FinetuneTask)
    return task


def test_it_learns_and_finds_more_than_before(made: Store, tuned: Manifest, tmp_path: Path) -> None:
    found = tuned.totals
    history = [json.loads(line) for line in (fetch(made, tuned, tmp_path) / "history.jsonl").read_text().splitlines()]
    assert history[-1]["loss"] < history[0]["loss"] - 0.3
    assert found["held_out"] == 47 and 2 / 47 < found["recall_at_1_chance"] < 4 / 47, "three captions are right"
    after, before = (
        found[f"recall_at_1_image_to_text{when}"] + found[f"recall_at_1_text_to_image{when}"]
        for when in ("", "_before")
    )
    assert after > before and after > 2 * found["recall_at_1_chance"]


def test_the_result_is_a_whole_checkpoint_for_larger_pictures(made: Store, tuned: Manifest, tmp_path: Path) -> None:
    old, new = (fetch(made, each, tmp_path / each.ref.version) for each in (load(made, START), tuned))
    config = InternVLConfig.model_validate_json((new / "config.json").read_text())
    before, after = (open_weights(folder) for folder in (old, new))
    InternVL.from_state(config, after)
    assert config.vision.image_size == 60
    assert after["vision_model.embeddings.position_embedding"].shape == (1, 26, 24)
    assert torch.equal(after["qllama.lm_head.weight"], before["qllama.lm_head.weight"])
    assert not torch.equal(after["qllama.model.embed_tokens.weight"], before["qllama.model.embed_tokens.weight"])


def test_no_caption_of_a_picture_kept_aside_teaches(made: Store, tmp_path: Path) -> None:
    task = task_of(made, tmp_path)
    (source,) = task.samples
    taught, whole = set(task.batches.rows.tolist()), task_of(made, tmp_path / "whole", held_out=192).held_out
    assert len(task.held_out) == 47 and set(task.held_out) <= set(whole), "of those kept aside, some are measured"
    assert taught.isdisjoint(whole) and taught | set(whole) == set(range(192)) and source.samples == len(taught)
    assert len({row // 3 for row in taught}) * 3 == len(taught), "all captions of a picture are on one side"
    aside = set(task.batches.pictures(60).ids(whole).tolist())
    assert aside.isdisjoint(task.batches(range(source.samples), 0)["image_id"].tolist())
    with pytest.raises(ManifestError, match=r"was trained with held_out_share 0\.3 and this stage has 0\.31"):
        task_of(made, tmp_path / "more", held_out_share=0.31)


def test_layers_learn_more_slowly_the_lower_they_are(made: Store, tmp_path: Path) -> None:
    task = task_of(made, tmp_path, layer_decay=0.5)
    scales = {id(p): group["scale"] for group in task.groups(0.1) for p in group["params"]}
    named = dict(task.model.named_parameters())
    assert scales[id(named["vision_model.embeddings.position_embedding"])] == 0.25
    assert scales[id(named["vision_model.encoder.layers.0.attn.qkv.weight"])] == 0.5
    assert scales[id(named["qllama.model.embed_tokens.weight"])] == 0.125
    assert scales[id(named["clip_projector.cross_attn.q.weight"])] == 1
    assert id(named["qllama.lm_head.weight"]) not in scales


def test_internvl_g_is_tuned_with_both_its_views(made: Store, tmp_path: Path) -> None:
    folder = fetch(made, load(made, START), tmp_path / "c")
    config = InternVLConfig.model_validate_json((folder / "config.json").read_text())
    torch.manual_seed(0)
    model = InternVL(config.model_copy(update={"num_query_token": 4}))
    model.load_state_dict(dict(open_weights(folder)), strict=False)
    start, output = folder / "g", Output(made, Ref(name="checkpoints/generative", version="t"), "generative", {})
    files = in_shards(model.state_dict()) | checkpoints.beside(model.config, folder)
    named = {name.partition(".")[0]: (name, data) for name, data in files.items()}
    facts = {"names": {role: name for role, (name, _) in named.items()}}
    generative = output.commit([checkpoints.publish(output, digest_of("g"), named, 1, facts)])
    inputs = {PAIRS.name: load(made, PAIRS), generative.ref.name: generative}
    given = Parameters.model_validate({**GIVEN, "checkpoint": "checkpoints/generative"})
    task = build(given, Workspace(made, InlineCluster(), start, inputs))
    losses = task.module(task.batches(range(12), 0))
    losses["loss"].backward()
    without = {name for name, p in task.module.named_parameters() if p.requires_grad and p.grad is None}
    assert not without, "every weight that is said to learn has something to learn from"
    moved = task.module.model.query_tokens.grad  # type: ignore[union-attr]
    assert bool(moved.abs().sum() > 0)  # type: ignore[union-attr,operator]


def test_sizes_and_schedules_that_do_not_fit_are_refused(made: Store, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="image_size 50 does not divide into the checkpoint's patches of 12"):
        task_of(made, tmp_path, image_size=50)
    with pytest.raises(ManifestError, match="900 pairs are fewer than the paper's batch of 1024"):
        paper_parameters(pairs=900)
    paper = paper_parameters(pairs=145_000)  # Flickr30K: 29,000 training pictures with five captions
    assert paper.held_out_share == 0 and paper.held_out == 0, "it is measured on a split of its own"
    assert paper.image_size == 364 and paper.layer_decay == 0.9 and paper.schedule.steps == 1416
