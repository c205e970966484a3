"""The generative stage on drawn pictures: frozen towers, constants, wrong captions, and what it leaves behind."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from training_data import make_language, make_shards

from infra.cluster import InlineCluster
from infra.storage import Store
from models.config import InternVLConfig
from models.generative_objective import is_trained
from models.internvl import InternVL
from stages import generative_measures
from stages.checkpoints import fetch
from stages.forecasts import meters_key
from stages.generative import GenerativeTask, Parameters, build
from stages.generative_batches import GenerativeBatches
from stages.generative_measures import area_under_curve, measure
from stages.manifest import Manifest, ManifestError, load
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.training.meters import METER_STEPS
from stages.training.order import Order
from stages.weight_files import open_weights
from stages.workspace import Workspace

CONTRASTIVE = {
    "patch_size": 12,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "embed_dim": 16,
    "held_out_share": 0.3,
    "held_out": 16,
    "schedule": {"global_batch_size": 16, "steps": 2, "learning_rate": 0.01},
}
GIVEN = {
    "num_query_token": 4,
    "held_out_share": 0.3,
    "held_out": 16,
    "schedule": {"global_batch_size": 16, "steps": 12, "learning_rate": 0.01, "warmup_steps": 2},
}
INPUTS = ("shards/caption_quality", "checkpoints/contrastive")


def make(store: Store, stage: str, parameters: dict[str, object], inputs: tuple[str, ...]) -> Manifest:
    refs = tuple(Ref(name=name, version="t") for name in inputs)
    ref = Ref(name=f"checkpoints/{stage}", version="t")
    return materialize(
        StageSpec(stage=stage, artifact=ref, parameters=parameters, inputs=refs), store, InlineCluster()
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_shards(store, samples=48)
    make_shards(store, "shards/caption_quality", samples=48)
    make_language(store)
    make(store, "contrastive", CONTRASTIVE, ("shards/clean", "checkpoints/language"))
    yield store


@pytest.fixture(scope="module")
def trained(made: Store) -> Manifest:
    return make(made, "generative", GIVEN, INPUTS)


def task_of(store: Store, folder: Path, **given: object) -> GenerativeTask:
    inputs = {name: load(store, Ref(name=name, version="t")) for name in INPUTS}
    torch.manual_seed(0)
    task = build(Parameters.model_validate({**GIVEN, **given}), Workspace(store, InlineCluster(), folder, inputs))
    assert isinstance(task, GenerativeTask)
    return task


def rows_at(task: GenerativeTask, step: int) -> list[int]:
    return Order(0, task.samples).rows(step, 16)


def test_only_what_looks_at_pictures_has_learned(made: Store, trained: Manifest, tmp_path: Path) -> None:
    files = fetch(made, trained, tmp_path / "g")
    config = InternVLConfig.model_validate_json((files / "config.json").read_text())
    weights = open_weights(files)
    model = InternVL.from_state(config, weights)
    assert model.generative and model.query_tokens.shape == (1, 4, 32)
    before = fetch(made, load(made, Ref(name="checkpoints/contrastive", version="t")), tmp_path / "c")
    start = open_weights(before)
    changed = {name for name in start if not torch.equal(weights[name], start[name])}
    assert changed == {"logit_scale"}
    assert {name for name in weights if name not in start} == {n for n in weights if is_trained(n)} - {"logit_scale"}
    assert (before / "tokenizer.json").read_bytes() == (files / "tokenizer.json").read_bytes()


def test_the_meters_tell_the_use_of_the_device(made: Store, trained: Manifest) -> None:
    (line,) = [json.loads(each) for each in made.read(meters_key(trained.ref)).splitlines()]
    assert line["step"] == METER_STEPS and line["mfu"] > 0 and 0 < line["useful_share"] < 1


def test_every_trained_weight_is_in_the_optimizer_and_moves(made: Store, trained: Manifest, tmp_path: Path) -> None:
    task = task_of(made, tmp_path)
    held = {id(p) for group in task.groups(0.1) for p in group["params"]}
    assert held == {id(p) for name, p in task.model.named_parameters() if is_trained(name)}
    task.module(task.batches(rows_at(task, 3), 3))["loss"].backward()
    for name, parameter in task.model.named_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.any())
        # Of the pooling, a shift of all keys changes no softmax: its gradient is nought but for rounding.
        assert moved == is_trained(name) or name.endswith("k_bias"), name


def test_it_says_what_guessing_gives(made: Store, trained: Manifest, tmp_path: Path) -> None:
    files = fetch(made, trained, tmp_path)
    assert (files / "history.jsonl").read_text().count("\n") == 12
    metrics = trained.totals
    assert metrics["held_out"] == 16 and metrics["matching_auc_chance"] == 0.5
    assert 0 <= metrics["matching_auc"] <= 1 and metrics["recall_at_1_chance"] >= 1 / 16
    assert metrics["caption_loss"] > 0 and metrics["caption_loss_of_another_picture"] > 0
    assert {"itc", "itm", "itg", "loss"} <= trained.parts[0].facts["curve"][0].keys()


def test_what_is_kept_aside_is_measured_among_itself(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(made, tmp_path)
    task.module.eval()
    drawn: list[int] = []
    real = GenerativeBatches.another

    def noted(*given: Any) -> int:
        drawn.append(real(*given))
        return drawn[-1]

    monkeypatch.setattr(GenerativeBatches, "another", noted)
    with torch.no_grad():
        for weight in filter(lambda each: each.requires_grad, task.model.parameters()):
            weight.add_(torch.randn_like(weight) * 0.2)  # a fresh model does not look at the picture yet
        whole = measure(task.model, task.batches, task.held_out[:5])
        assert len(drawn) == 5 and set(drawn) <= set(task.held_out[:5]), "a trained caption would be familiar"
        monkeypatch.setattr(generative_measures, "MEASURE_BATCH", 2)
        assert measure(task.model, task.batches, task.held_out[:5]) == pytest.approx(whole, abs=2e-4)
        one = measure(task.model, task.batches, task.held_out[:2])
        monkeypatch.setattr(generative_measures, "MEASURE_BATCH", 1)
        assert one["caption_loss"] != one["caption_loss_of_another_picture"]
        assert measure(task.model, task.batches, task.held_out[:2]) == pytest.approx(one, abs=2e-4)


def test_another_picture_is_another_where_a_picture_has_several_captions(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(made, tmp_path)
    task.module.eval()
    rows, shown = task.held_out[:4], []
    real = GenerativeBatches.seen

    def noted(batches: GenerativeBatches, asked: Sequence[int]) -> Any:
        shown.append(list(asked))
        return real(batches, asked)

    monkeypatch.setattr(GenerativeBatches, "seen", noted)
    monkeypatch.setattr(task.batches.samples, "told_by", lambda row: (rows.index(row) // 3,) * 2)
    with torch.no_grad():
        measure(task.model, task.batches, rows)
        assert shown == [rows, [rows[3], rows[3], rows[3], rows[0]]]
        monkeypatch.setattr(task.batches.samples, "told_by", lambda row: (0, 0))
        assert "caption_loss_of_another_picture" not in measure(task.model, task.batches, rows)


def test_steps_have_the_same_bits_kept_or_not_and_after_a_restart(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(task: GenerativeTask, steps: range) -> list[dict[str, torch.Tensor]]:
        return [task.module(task.batches(rows_at(task, step), step)) for step in steps]

    running = task_of(made, tmp_path / "1")
    expected = losses(running, range(4))[-1]  # the samples of step 3 were seen in the first epoch, with others
    assert len(running.module.towers.visions) == 31 and len(running.module.towers.texts) == 31
    restarted = task_of(made, tmp_path / "2")
    (found,) = losses(restarted, range(3, 4))
    monkeypatch.setattr("stages.generative.FEATURE_BYTES", 0)
    monkeypatch.setattr("stages.generative.TEXT_BYTES", 0)
    forgetful = task_of(made, tmp_path / "3")
    (fresh,) = losses(forgetful, range(3, 4))
    assert len(forgetful.module.towers.visions) == 0
    for name, value in expected.items():
        assert torch.equal(value, found[name]) and torch.equal(value, fresh[name]), name


def test_what_a_crop_shows_is_not_kept(made: Store, tmp_path: Path) -> None:
    task = task_of(made, tmp_path, smallest_crop=0.5)
    task.module(task.batches(rows_at(task, 0), 0))
    assert len(task.module.towers.visions) == 0 and len(task.module.towers.texts) == 16


def test_queries_begin_as_words(made: Store, tmp_path: Path) -> None:
    task = task_of(made, tmp_path / "captions")
    english = [row for row in task.batches.rows.tolist() if row % 3 == 0]
    texts, captions = task.batches.texts, task.batches.captions
    told = [texts.ids(caption)[1:-1] for caption in captions.read(english)]
    starts = task.model.query_tokens[0].detach()
    fitting = [each for each in told if len(each) <= len(starts)] or told
    (length, word), _ = Counter((len(each), each[0]) for each in fitting).most_common(1)[0]
    alike = [each for each in fitting if (len(each), each[0]) == (length, word)]
    words = task.model.qllama.model.embed_tokens.weight.detach()
    for place in range(min(length, len(starts))):
        mean = torch.stack([words[each[place]] for each in alike]).mean(dim=0)
        assert torch.allclose(starts[place], mean, atol=1e-6), place
    assert torch.equal(starts[0], words[word]), "captions of one form begin alike"
    other = task_of(made, tmp_path / "random", query_start="random")
    assert not torch.allclose(other.model.query_tokens, task.model.query_tokens)


def test_what_would_measure_on_trained_pictures_or_on_none_is_refused(made: Store, tmp_path: Path) -> None:
    with pytest.raises(
        ManifestError, match=r"trained with held_out_share 0\.3 and this stage has 0\.5.*set held_out_share to 0\.3"
    ):
        task_of(made, tmp_path / "more", held_out_share=0.5)
    with pytest.raises(ManifestError, match="raise held_out_share"):
        task_of(made, tmp_path / "none", held_out_share=0.001)
    assert set(task_of(made, tmp_path / "less", held_out_share=0.1).held_out) < set(task_of(made, tmp_path).held_out)


def test_the_area_under_the_curve() -> None:
    assert area_under_curve(torch.tensor([3.0, 2.0]), torch.tensor([1.0, 0.0])) == 1
    assert area_under_curve(torch.tensor([1.0]), torch.tensor([1.0])) == 0.5
    assert area_under_curve(torch.tensor([0.0, 2.0]), torch.tensor([1.0])) == 0.5
