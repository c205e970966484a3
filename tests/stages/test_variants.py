"""The study as a stage, at the smallest size: killed and resumed, one order of data, and what it publishes."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from training_data import make_language, make_shards
from typer.testing import CliRunner

from infra.cluster import InlineCluster, RayCluster, TrainLoop
from infra.gang import GangSize
from infra.storage import Store
from models.variants import derive
from pipelines.cli import app
from stages import materialize
from stages.manifest import Manifest, ManifestError, load
from stages.materialize import StageSpec
from stages.ref import Ref
from stages.study.parameters import Parameters, paper_study
from stages.study.training import Training, check_order, history_of
from stages.workspace import Progress

SMALL: dict[str, Any] = {
    "budget": 8000,
    "depths": [1, 2],
    "head_dims": [4],
    "mlp_ratios": [2],
    "tolerance": 0.5,
    "seeds": [0, 1],
    "raised": [16],
    "raised_steps": 4,
    "scenes": 4,
    "languages": ["en"],
    "batches": [1, 2],
    "rounds": 1,
    "training": {
        "image_size": 16,
        "embed_dim": 8,
        "text_learning_rate_scale": 0.0,
        "held_out": 4,
        "schedule": {"global_batch_size": 8, "steps": 6, "learning_rate": 0.003, "warmup_steps": 2},
    },
}
TRAININGS = tuple(f"d{depth}_h4_r2_s{seed}{rate}" for depth in (1, 2) for seed in (0, 1) for rate in ("", "_x16"))


@pytest.fixture
def data(store: Store) -> Store:
    make_shards(store, image_size=16, samples=40)
    make_language(store, hidden_size=16, num_hidden_layers=1)
    return store


def spec(version: str = "t", **changes: Any) -> StageSpec:
    return StageSpec(
        stage="variants",
        artifact=Ref(name="variants", version=version),
        parameters={**SMALL, **changes},
        inputs=(Ref(name="shards/clean", version="t"), Ref(name="checkpoints/language", version="t")),
    )


def made(store: Store, wanted: StageSpec) -> Manifest:
    return materialize.materialize(wanted, store, InlineCluster(), progress=False)


def trained(store: Store, version: str = "t") -> dict[str, Manifest]:
    names = {key.split("/")[2] for key in store.keys("checkpoints/contrastive") if key.endswith("manifest.json")}
    return {name: load(store, Ref(name=f"checkpoints/contrastive/{name}", version=version)) for name in names}


def test_a_killed_study_goes_on_and_repeats_no_finished_training(
    data: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.write("spec.json", spec().model_dump_json().encode())
    command = [sys.executable, "-m", "stages.run", "spec.json", "--store", data.root, "--inline"]
    environment = {**os.environ, "INTERNVL_FAILPOINT": "after_manifest:kill:3"}
    killed = subprocess.run(command, env=environment, capture_output=True, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    before = trained(data)
    assert len(before) == 3 and set(before) < set(TRAININGS)

    counted: Counter[str] = Counter()
    record = Progress.__call__

    def counting(self: Progress, done: float, total: float, unit: str, note: str = "") -> None:
        counted[self._ref.name.rpartition("/")[2]] += unit == "steps" and note.startswith("loss")
        record(self, done, total, unit, note)

    monkeypatch.setattr(Progress, "__call__", counting)
    study = made(data, spec())
    assert {name for name, steps in counted.items() if steps} == set(TRAININGS) - set(before)
    after = trained(data)
    assert set(after) == set(TRAININGS) and all(after[name] == manifest for name, manifest in before.items())
    _check(data, study, after)

    counted.clear()
    assert made(data, spec()) == study and not counted, "what stands is found"


def end_losses(study: Manifest) -> list[float | None]:
    """Return the loss at the end of each training, and None for the timings."""
    return [part.facts.get("stability", {}).get("end_loss") for part in study.parts]


def _check(store: Store, study: Manifest, checkpoints: dict[str, Manifest]) -> None:
    assert study.totals["trainings"] == 8 and study.totals["recommended"] in ("d1_h4_r2", "d2_h4_r2")
    assert {part.key for part in study.parts} == {*TRAININGS, "speed"}
    assert set(study.reports) == {"page", "table"}
    page = store.read(study.key(study.reports["page"])).decode()
    assert "variant 3 (chosen)" in page and str(study.totals["recommended"]) in page
    facts = {part.key: part.facts for part in study.parts}
    first = facts["d2_h4_r2_s0"]
    assert first["logits"]["start"] != first["logits"]["end"] and 0 <= first["accuracy"]["choose"]["value"] <= 1
    assert "accuracy" not in facts["d2_h4_r2_s0_x16"] and "failure" in facts["d2_h4_r2_s1_x16"]["stability"]
    costs = facts["speed"]
    assert costs["d2_h4_r2"]["activation_bytes"] > costs["d1_h4_r2"]["activation_bytes"] > 0
    assert costs["d1_h4_r2"]["speed"]["saturated"]["value"] > 0
    histories = {name: history_of(store, each) for name, each in checkpoints.items()}
    digests = {name: [step["rows_digest"] for step in history] for name, history in histories.items()}
    assert digests["d1_h4_r2_s0"] == digests["d2_h4_r2_s0"] != digests["d1_h4_r2_s1"] == digests["d2_h4_r2_s1"]
    assert digests["d1_h4_r2_s0_x16"] == digests["d1_h4_r2_s0"][:4]
    rates = {name: [step["lr"] for step in history] for name, history in histories.items()}
    assert rates["d1_h4_r2_s0_x16"][1:] == pytest.approx([16 * 0.003] * 3), "held after the warm-up"
    assert max(rates["d1_h4_r2_s0"]) == pytest.approx(0.003) and rates["d1_h4_r2_s0"][-1] < 0.001


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_on_ray_trainings_of_one_process_and_of_several_give_the_same_study(
    data: Store, ray_cluster: RayCluster, workers: int
) -> None:
    few: dict[str, Any] = {"raised": [], "seeds": [0]}
    alone = made(data, spec("inline", **few))
    wanted = spec("ray", **few).model_copy(update={"placement": {"workers": workers}})
    together = materialize.materialize(wanted, data, ray_cluster, progress=False)
    losses = [end_losses(study) for study in (alone, together)]
    assert losses[0][:2] == pytest.approx(losses[1][:2], rel=1e-4) and losses[0][2] is None


class Roomy(InlineCluster):
    """Has room for two gangs, and starts one only together with another."""

    def __init__(self) -> None:
        self.both, self.one = threading.Barrier(2, timeout=60), threading.Lock()

    def room(self, size: GangSize) -> int:
        assert size.workers == 2
        return 2

    def train(self, loop: TrainLoop, config: dict[str, Any], **how: Any) -> None:
        self.both.wait()
        with self.one:  # a process has one generator of random numbers
            super().train(loop, config, **how)


def test_gangs_train_side_by_side_where_there_is_room(data: Store) -> None:
    few: dict[str, Any] = {"raised": [], "seeds": [0]}
    wanted = spec("gangs", **few).model_copy(update={"placement": {"workers": 2}})
    study = materialize.materialize(wanted, data, Roomy(), progress=False)
    alone = made(data, spec("alone", **few))
    losses = [end_losses(each) for each in (study, alone)]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_two_trainings_that_read_other_samples_are_refused() -> None:
    one, other = Training(derive(1, 4, 8, 1e4), 0), Training(derive(2, 4, 8, 1e4), 0)
    history = [{"step": number + 1.0, "rows_digest": 7.0 + number} for number in range(4)]
    check_order({one: history, other: history[:3]})
    moved = [*history[:2], {"step": 3.0, "rows_digest": 1.0}]
    with pytest.raises(ManifestError, match=r"read other samples at step 3: they cannot be compared"):
        check_order({one: history, other: moved})
    check_order({one: history, Training(other.variant, 1): moved})  # another seed has another order


def test_screening_goes_on_with_the_best_and_pictures_kept_aside_can_be_measured_on(
    data: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"depths": [1, 2, 3], "screen_steps": 3, "scenes": 0, "raised": [], "seeds": [0]}
    monkeypatch.setenv("INTERNVL_STORE", data.root)
    (tmp_path / "given.json").write_text(
        spec(**changes).model_dump_json(include={"parameters"})[len('{"parameters":') : -1]
    )
    words = ["variants", "--inline", "--data", "shards/clean@t", "--version", "s", "--parameters"]
    result = CliRunner().invoke(app, [*words, str(tmp_path / "given.json"), "--seeds", "0", "--budget", "8K"])
    assert result.exit_code == 0, result.output
    study = load(data, Ref(name="variants", version="s"))
    assert study.totals["variants"] == 2 and "With one seed there is no interval" in result.output
    names = set(trained(data, "s"))
    assert sum(name.endswith("_screen") for name in names) == 3 and len(names) == 5
    page = data.read(study.key(study.reports["page"])).decode()
    assert "stopped early, loss" in page and "by guessing" in page
    losses = {name: load(data, Ref(name=f"checkpoints/contrastive/{name}", version="s")) for name in names}
    screened = {name: each.totals["last_loss"] for name, each in losses.items() if name.endswith("_screen")}
    worst = max(screened, key=lambda name: float(screened[name])).removesuffix("_screen")
    assert worst not in names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": [2, 2]}, r"depths \[2, 2\] must be different numbers"),
        ({"head_dims": [0]}, r"head_dims \[0\] must be different numbers, 1 or more each"),
        ({"raised": [4, 1]}, r"raised \[4\.0, 1\.0\] must be factors above 1"),
        ({"raised": ["nan"]}, "must be factors above 1"),
        ({"budget": "inf"}, "finite number"),
        ({"raised_steps": 2}, "raised_steps 2 end before the warm-up of 2 steps"),
        ({"screen_steps": 1}, "screen_steps 1 end before the warm-up"),
        ({"scenes": 0, "training": {**SMALL["training"], "held_out": 0}}, "nothing to measure on"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameters.model_validate({**SMALL, **changes})


def test_a_budget_that_no_two_variants_come_near_is_refused_with_the_misses() -> None:
    with pytest.raises(ManifestError, match=r"only 0 of 2 variants .* whole heads make it .* raise tolerance"):
        Parameters.model_validate({**SMALL, "tolerance": 1e-6}).variants()


def test_the_papers_study_has_its_whole_grid_at_its_size() -> None:
    study = paper_study()
    found, left_out = study.variants()
    assert len(found) == 16 and not left_out
    # In the paper's own words: 10,000 steps, a subset of 100 million pairs.
    schedule = study.training.schedule
    assert schedule.steps == 10_000 and schedule.steps * schedule.global_batch_size == pytest.approx(1e8, rel=0.03)
    chosen = next(each for each in found if each.name == "d48_h128_r4")
    assert study.trained(chosen, seed=0).vision().hidden_size == 3200


def test_missing_data_is_named_and_a_bad_list_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_STORE", store.root)
    result = CliRunner().invoke(app, ["variants", "--inline", "--data", "shards/clean@mine"])
    assert result.exit_code == 2 and "shards/clean@mine" in result.output
    result = CliRunner().invoke(app, ["variants", "--inline", "--depths", "two"])
    assert result.exit_code == 2 and "--depths 'two' holds no numbers; write them as 2,6" in result.output
