"""Rows, bytes and hours of a plan's steps: published, as they stand, by a pilot; what is not known is said so."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from filters.funnel import PAPER
from infra.storage import Store
from pipelines import rates
from pipelines.amount_tables import section
from pipelines.amounts import Amounts
from pipelines.budget import SAMPLE_BYTES
from pipelines.clusters import gpus_of
from pipelines.graph import Step
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.rates import bytes_of, clip_flops
from pipelines.reckoning import Reckoner
from pipelines.training_price import UTILISATION, Training
from stages.download_price import Price, Whole
from stages.manifest import File, Ledger, Manifest, Part, load
from stages.ref import Ref


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    return Store(str(tmp_path / "store"))


def reckoned(steps: Sequence[Step], store: Store, published: bool = True, **given: Any) -> dict[str, Amounts]:
    known = {"priced": (), "trained": (), "needed": (), "gpus": gpus_of("8xA100"), **given}
    found = Reckoner(
        store, known["priced"], known["trained"], known["needed"], gpus=known["gpus"], published=published
    )
    return {each.artifact.partition("@")[0]: each for each in found.amounts(steps)}


@pytest.fixture
def paper(store: Store) -> list[Step]:
    return steps_of(FlowName.INTERNVL, RecipeName.PAPER)


def test_the_papers_funnel(paper: list[Step], store: Store) -> None:
    found = reckoned(paper, store)
    listed = sum(each.rows_out or 0 for name, each in found.items() if name.startswith("listing/"))
    assert listed == round(1e6 * sum(each[0] for each in PAPER.values())) == 6_106_400_000
    clean, strict = found["shards/clean"], found["shards/caption_quality"]
    assert clean.rows_out == pytest.approx(4.98e9, rel=1e-3) and strict.rows_out == pytest.approx(1.03e9, rel=6e-3)
    assert clean.gigabytes_out == pytest.approx(4_979_100_000 * SAMPLE_BYTES / 1e9)
    fetched = found["pool/coyo"]
    assert (fetched.requests, fetched.rows_in, fetched.rows_out) == (747_000_000, 747_000_000, 535_000_000)
    assert fetched.gigabytes_in is None, "nobody says how large pictures of the web are: a pilot does"
    assert "at least" in fetched.source and "Table 2" in found["verdicts/clean/coyo"].source
    assert found["verdicts/caption_quality/coyo"].rows_in == 535_000_000, (
        "the strict step reads what the light one kept"
    )
    told = json.loads((rates.RESULTS / "filters.json").read_text())["manifest_scan"]["clean"]
    hours = 535e6 * told["cpu_seconds"] / told["rows"] / 3600
    assert found["verdicts/clean/coyo"].cpu_hours == pytest.approx(hours)


def test_scoring_takes_gpus(paper: list[Step], store: Store) -> None:
    found, without = reckoned(paper, store), reckoned(paper, store, gpus=None)
    flops = clip_flops("open_clip:ViT-B-32/laion2b_s34b_b79k")
    assert flops is not None and flops == pytest.approx(2 * (4.37e9 + 2.98e9), rel=0.02), "4.4 and 3.0 GMAC a pair"
    assert found["signals/coyo"].gpu_hours == pytest.approx(535e6 * flops / (312e12 * UTILISATION) / 3600)
    assert without["signals/coyo"].gpu_hours is None and clip_flops("open_clip:new/one") is None
    assert found["signals/wukong"].gpu_hours and "assumed" in found["signals/wukong"].source


def test_without_published_rows_nothing_is_made_up(paper: list[Step], store: Store) -> None:
    found = reckoned(paper, store, published=False)
    values = [getattr(found["pool/coyo"], name) for name in ("rows_in", "rows_out", "requests", "gigabytes_out")]
    assert values == [None] * 4 and found["signals/coyo"].cpu_hours is None


def test_a_pilot_comes_before_what_is_published(paper: list[Step], store: Store) -> None:
    price = Price(
        "coyo", Whole(1000, 900, 800), 50, 0.5, 0.4, 0.6, 0.0, 0.0, 800, 3.0, 2.0, 4.0, 5.0, 6.0, 2, 0.0, ()
    )
    found = reckoned(paper, store, priced=(price,))
    got = found["pool/coyo"]
    assert (got.rows_in, got.rows_out, got.requests, got.gigabytes_in, got.gigabytes_out) == (900, 450, 800, 3.0, 2.0)
    assert got.cpu_hours == 4.0 and "pilot of 50 urls" in got.source
    assert found["listing/coyo"].rows_out == 1000 and found["signals/coyo"].rows_in == 450


def stands(store: Store, step: Step, cpu_seconds: float | None, version: str = "") -> None:
    """Let an artifact of ten rows stand, of which eight are kept in 2,000 bytes."""
    ref = Ref(name=step.artifact, version=version or step.spec.artifact.version)
    ledger = Ledger(listed=10, kept=8, rejected=2)
    files = {"rows": File(name="parts/a", bytes=2000, sha256="0")}
    part = Part(key="0", input_digest="0", ledger=ledger, files=files)
    identity = {"stage": step.spec.stage, "parameters": step.spec.parameters}
    made = Manifest(ref=ref, stage=step.spec.stage, identity=identity, ledger=ledger, parts=(part,))
    store.write(ref.key("manifest.json"), made.model_dump_json().encode())
    store.write(ref.key("run.json"), json.dumps({} if cpu_seconds is None else {"cpu_seconds": cpu_seconds}).encode())


def test_what_stands_is_told_as_it_came(paper: list[Step], store: Store) -> None:
    step = next(step for step in paper if step.artifact == "signals/coyo")
    stands(store, step, 36.0)
    got = reckoned(paper, store)["signals/coyo"]
    assert (got.rows_in, got.rows_out, got.gigabytes_out, got.cpu_hours) == (10, 8, 2e-6, 0.01)
    assert got.source == "as it stands" and bytes_of(load(store, step.spec.artifact)) == 2000


def test_a_rate_is_that_of_the_same_work_alone(paper: list[Step], store: Store) -> None:
    step = next(step for step in paper if step.artifact == "verdicts/clean/coyo")
    stands(store, step, 20.0, "earlier")
    got = reckoned(paper, store)["verdicts/clean/coyo"]
    assert got.cpu_hours == pytest.approx(2.0 * 535e6 / 3600) and "as in verdicts/clean/coyo@earlier" in got.source
    assert got.gigabytes_out == pytest.approx(250 * 535e6 / 1e9)
    other = step.changed(parameters={**step.spec.parameters, "truth": "another"})
    stands(store, other, 20.0, "earlier")
    assert "filters.json" in reckoned(paper, store)["verdicts/clean/coyo"].source, "other parameters, other work"
    stands(store, step, None, "earlier")
    assert "filters.json" in reckoned(paper, store)["verdicts/clean/coyo"].source, "nobody measured it in one go"


def test_a_training_reads_and_decodes(paper: list[Step], store: Store) -> None:
    training = Training("contrastive", 1000, 1000, 400 * 3600, 1e15, 640)
    timed = SimpleNamespace(training=training, step_seconds=1.0, gpu_hours=7.0, days=1.0)
    got = reckoned(paper, store, trained=[training], needed=[timed])["checkpoints/contrastive"]
    assert (got.rows_in, got.cpu_hours, got.gpu_hours) == (400 * 3600, 1.0, 7.0)
    assert got.gigabytes_in == pytest.approx(400 * 3600 * SAMPLE_BYTES / 1e9) and got.gigabytes_out == 4e-6
    given = Training("language", 500, 0, 0, 0.0, 0)
    got = reckoned(paper, store, trained=[given, training])
    assert (got["checkpoints/language"].rows_in, got["checkpoints/language"].gigabytes_out) == (0, 2e-6)
    assert got["exports/contrastive"].gigabytes_in == got["exports/contrastive"].gigabytes_out == 4e-6
    assert got["checkpoints/language"].group == "language" and got["checkpoints/contrastive"].gpu_hours is None


def test_the_table_sums_sources_and_says_what_is_not_known() -> None:
    one = Amounts("score a", "signals/a@v", "score", 1000, 900, 0, 1.0, None, 0.5, 0.0, "measured")
    two = Amounts("score b", "signals/b@v", "score", 500, None, 0, None, None, 1.0, 0.0, "assumed")
    found = section([one, two])
    assert found.rows == (("score", "2", "1,500", "> 900", "", "> 1", "?", "1.5", ""),)
    assert found.notes[1:] == ("score: measured", "score: assumed")
