"""`internvl plan paper --cluster ...`: time, memory and money by hand, and what is refused."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.settings import settings
from infra.storage import Store
from models.cost import decoder_macs, query_macs
from models.memory_forecast import MASTER, MOMENTS, Forecast
from models.sizes import INTERNVL_14B
from pipelines.budget import DECODED_PER_CORE, SAMPLE_BYTES, Budget, budgets
from pipelines.cli import app
from pipelines.clusters import CARDS, Card, Gpus, gpus_of
from pipelines.names import FlowName, RecipeName
from pipelines.plan import states_of, steps_of
from pipelines.plan_compared import keep
from pipelines.plan_faults import judge
from pipelines.plan_memory import Fit
from pipelines.plan_tables import budget_sections
from pipelines.sections import markdown
from pipelines.training_price import Training, training_prices
from pipelines.utilisation import Utilisation
from stages.forecasts import held_against, meters_key
from stages.manifest import Ledger, Manifest
from stages.ref import Ref


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def call(*given: str) -> Result:
    return CliRunner().invoke(app, list(given))


def test_clusters_as_people_write_them() -> None:
    assert gpus_of("640xA100") == Gpus(640, CARDS["A100"]) and str(gpus_of("640xA100")) == "640xA100-80GB"
    assert gpus_of("8xh100-80GB").card.tflops == 989.0
    assert gpus_of("2xA100-40GB").card == Card("A100", 312.0, 40)
    for wrong, said in {
        "A100": "is no cluster",
        "0xA100": "is no cluster",
        "8xK80": "'K80' is unknown",
        "1xA100-0GB": "without memory",
    }.items():
        with pytest.raises(ValueError, match=said):
            gpus_of(wrong)


def test_totals_are_those_of_the_reference() -> None:
    """Stage 1 is 1.93e23 FLOPs; stage 2 4.0e22 in four passes, and less in ours: what each pass adds, by hand."""
    found = {each.stage: each for each in training_prices(steps_of(FlowName.TRAIN, RecipeName.PAPER))}
    assert found["contrastive"].flops == pytest.approx(1.93e23, rel=0.02)
    assert found["contrastive"].flops_as_released == 0, "there is but one way"
    generative, text = found["generative"], INTERNVL_14B.text
    assert generative.samples == 80_000 * 20_480
    assert generative.flops_as_released == pytest.approx(4.0e22, rel=0.02)
    look = query_macs(INTERNVL_14B, 257) - decoder_macs(text, 96)
    # Captions are written after the queries' kept keys and values: the queries and their look are not computed again;
    # pairs are judged by keys and values of pictures that are projected once.
    projected = 16 * 2 * 257 * 3200 * 4096
    weights = (32 * 202_375_168 * 96 * 2 + 3 * (look + 2 * projected)) * 2
    among = 2 * 3 * 2 * 32 * 4096 * (176 * 176 - 80 * 176)
    difference = generative.flops_as_released - generative.flops
    assert difference == pytest.approx(generative.samples * (weights + among), rel=1e-6)
    assert generative.flops == pytest.approx(3.22e22, rel=0.01)


def test_a_budget_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(settings().store_root)
    steps = [step for step in steps_of(FlowName.TRAIN, RecipeName.PAPER)]
    training = next(each for each in training_prices(steps) if each.stage == "contrastive")
    (found,) = budgets(
        steps, [training], states_of(steps, store), store, gpus_of("640xA100"), dollars_per_hour=2.0, given=0.5
    )
    seconds = training.flops / (312e12 * 0.5 * 640)
    assert found.step_flops == pytest.approx(training.flops / 175_000)
    assert found.step_seconds == pytest.approx(seconds / 175_000) and found.days == pytest.approx(seconds / 86400)
    assert found.gpu_hours == pytest.approx(seconds * 640 / 3600)
    assert found.dollars == pytest.approx(2 * found.gpu_hours)
    rate = training.samples / seconds
    assert found.decode_cores == pytest.approx(rate / DECODED_PER_CORE)
    assert found.gigabytes_per_second == pytest.approx(rate * SAMPLE_BYTES / 1e9)
    assert (
        found.state == "waits for its inputs"
        and found.utilisation is not None
        and found.utilisation.source == "given"
    )
    shards, whole = found.fits
    assert (shards.sharding, shards.rows, whole.sharding) == ("fsdp2", 256, "ddp")
    assert whole.memory.weights == MASTER * 12_620_029_697 and whole.memory.optimizer == MOMENTS * 12_620_029_697
    assert shards.memory.weights == whole.memory.weights // 640
    assert shards.largest == 256 and shards.memory.total < 80e9, "256 pairs fit into an A100 where all is sharded"
    assert whole.largest == 0, "13 billion parameters with their states fit onto no card"
    text = markdown(budget_sections([found], gpus_of("640xA100")))
    assert "| contrastive | waits for its inputs | 640 | 50% |" in text and "of peak, given" in text


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Training] = []

    def few(steps: object, trained: list[Training], *given: object, **more: object) -> list[object]:
        seen.extend(trained)
        return []

    monkeypatch.setattr("pipelines.plan_document.budgets", few)
    result = call("plan", "paper", "--cluster", "640xA100", "--json")
    found = json.loads(result.output)
    assert found["cluster"] == "640xA100-80GB" and found["budget"] == []
    assert [each.gpus for each in seen] == [0, 640, 160, 8, 8]
    same = json.loads(call("plan", "--recipe", "paper", "--json").output)
    assert same["training"] == found["training"] and "budget" not in same
    for words, said in {
        ("plan", "paper", "--recipe", "one_gpu"): "are two recipes",
        ("plan", "nothing"): "there is no 'nothing' to plan",
        ("plan", "--price", "2"): "name them with --cluster",
        ("plan", "--keep"): "no speed is known",
        ("plan", "paper", "--cluster", "many"): "is no cluster",
    }.items():
        refused = call(*words)
        assert refused.exit_code == 2 and said in refused.output


def test_a_forecast_is_held_against_its_run() -> None:
    store, steps = Store(settings().store_root), steps_of(FlowName.TRAIN, RecipeName.PAPER)
    ref = Ref(name="checkpoints/contrastive", version="paper")
    refused = call("plan", "--compare", str(ref))
    assert refused.exit_code == 2 and "has no forecast; make one before it is trained" in refused.output
    training = Training("contrastive", 10, 10, 100, 1e15, 640)
    memory = Forecast(1, 2, 3, 4, 5, 6, 7, 972, "somewhere")
    fits = (Fit("fsdp2", 4, memory, 8),)
    assumed = Utilisation.of(0.4, CARDS["A100"], "assumed")
    budget = Budget(training, 640, fits, assumed, 12.0, 6e12, 1.0, 1.0, None, 1.0, 1.0, "missing")
    assert keep([budget], steps, store, gpus_of("640xA100")) == [
        f"the forecast of {ref} is kept, to be held against its run"
    ]
    assert "nothing measured" in call("plan", "--compare", str(ref)).output
    ran = {"mfu": 0.5, "matmul_peak_flops": 1e12, "processes": 640, "device": "NVIDIA A100-SXM4-80GB"}
    lines = [
        {"seconds_per_step": s, "peak_memory_bytes": b, **ran} for s, b in ((9.0, 100), (10.0, 800), (30.0, 700))
    ]
    store.write(meters_key(ref), "\n".join(json.dumps(each) for each in lines).encode())
    step, flops, peak = json.loads(call("plan", "--compare", str(ref), "--json").output)
    assert (step["forecast"], step["fact"], step["ratio"]) == (12.0, 10.0, 1.2), "the median of the looks"
    assert (flops["forecast"], flops["fact"]) == (6e12, 5e12)
    assert peak["fact"] == 800 / 1e9 and peak["ratio"] == pytest.approx(1000 / 800)
    assert "1.20" in call("plan", "--compare", str(ref)).output
    assert "was trained already" in keep([budget], steps, store, gpus_of("640xA100"))[0], "no forecast afterwards"

    store.write(meters_key(ref), json.dumps({**lines[0], "processes": 8}).encode())
    refused = call("plan", "--compare", str(ref))
    assert refused.exit_code == 2 and "is for 640 A100 processes, and it ran in 8 on NVIDIA A100" in refused.output
    assert held_against(ref, store).keys() == {"forecast_not_compared"}
    store.write(meters_key(ref), json.dumps(lines[0]).encode())
    spec = next(step.spec for step in steps if step.spec.artifact == ref)
    other = {"stage": spec.stage, "code": 0, "parameters": spec.parameters}
    none = Ledger(listed=0, kept=0)
    stands = Manifest(ref=ref, stage=spec.stage, identity=other, ledger=none, parts=())
    store.write(ref.key("manifest.json"), stands.model_dump_json().encode())
    assert "made for other parameters" in call("plan", "--compare", str(ref)).output


def fit(total: int, rows: int, largest: int) -> Fit:
    return Fit("fsdp2", rows, Forecast(0, 0, 0, 0, 0, 0, 0, total, "somewhere"), largest)


def test_what_a_cluster_does_not_fit_is_said() -> None:
    """By the trainer's own rules: rows divide by processes, and a share by micro batches."""
    training = Training("contrastive", 10, 10, 100, 1e15, 640)

    def verdict(cluster: str, memory: Fit, count: int = 0, packed: bool = False) -> tuple[bool, int | None, str]:
        gpus = gpus_of(cluster)
        found = judge(training, memory, global_batch=163_840, packed=packed, count=count or gpus.count, gpus=gpus)
        return found.runs, found.rows, " ".join(found.said)

    assert verdict("640xA100", fit(79 * 10**9, 256, 256)) == (True, None, "")
    runs, rows, said = verdict("48xA100", fit(563 * 10**9, 3413, 256))
    assert (runs, rows) == (False, None) and "do not divide by 48 GPUs; take 40 or 64" in said
    runs, rows, said = verdict("64xA100", fit(563 * 10**9, 2560, 300))
    assert (
        (runs, rows) == (True, 256)
        and "563 GB do not fit into the 80 GB of an A100" in said
        and "(2,560 placed)" in said
    )
    runs, rows, said = verdict("1280xA100", fit(10**9, 256, 256), count=640)
    assert (runs, said) == (True, "takes 640 of 1,280 GPUs, as many as its placement has workers")
    assert verdict("64xA100", fit(90 * 10**9, 1, 0), packed=True)[:2] == (False, None)


def test_nothing_is_said_of_what_is_not_known() -> None:
    training, memory = Training("language", 10, 10, 100, 1e15, 0), fit(10**9, 4, 0)
    budget = Budget(training, 0, (memory,), None, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, "missing")
    times, memories = budget_sections([budget], gpus_of("8xH100"))
    assert times.rows == (("language", "missing", *["–"] * 8),), "a CPU's time is not nought"
    assert memories.rows[0][-1] == "–" and "plan --calibrate measures it" in times.notes[0]
    assert budget_sections([], None) == []
