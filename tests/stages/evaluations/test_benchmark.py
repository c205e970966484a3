"""Checkpoints on benchmarks: a part for each, the same on any cluster, gone on with after a stop, and never on
data that changed meanwhile."""

from pathlib import Path
from typing import Any

import pytest
from measured_worlds import chosen, colours, make_towers, measured, paint
from torch import Tensor
from worlds import plain

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from models.internvl import InternVL
from stages import benchmark, materialize
from stages.evaluations.results import read_confusion, read_result, read_scores, read_shown
from stages.manifest import Manifest, ManifestError, verify
from stages.ref import Ref

TWO = (colours("colours"), colours("paints"))


def page_of(store: Store, manifest: Manifest) -> str:
    return store.read(manifest.key(manifest.reports["page"])).decode()


def test_a_row_is_a_part_that_is_read_back_whole(store: Store, tmp_path: Path) -> None:
    place = paint(tmp_path / "data")
    (place / "val" / "red" / "0.png").write_bytes(b"no picture")
    checkpoint = make_towers(store)
    made = measured(store, tmp_path, checkpoint, chosen(place, TWO[0]))
    assert verify(store, made) == []
    (part,) = made.parts
    assert part.key == "colours.zero_shot_classification.en"
    assert made.ledger.model_dump() == {"listed": 16, "kept": 15, "rejected": 0, "failed": 1}
    result = read_result(store, made, part)
    assert result.examples == 16 and list(result.unreadable) == ["red/0.png"]
    first = result.measures[0]
    assert (first.name, first.n, first.chance) == ("top1", 15, 0.25)
    keys, scores = read_scores(store, made, part)
    assert len(keys) == 15 and scores["top1"].mean() == pytest.approx(first.value, abs=1e-9)
    counts = read_confusion(store, made, part, 4)
    assert counts is not None and counts.sum() <= 15 and counts.trace() == scores["top1"].sum()
    shown = read_shown(store, made, part)
    assert shown and all(each.jpg.startswith(b"\xff\xd8") and each.right is False for each in shown)
    assert f"{part.key}.top1" in made.totals
    assert "| Plain colours | en | top1 |" in made.totals["markdown"]
    page = page_of(store, made)
    assert checkpoint.digest in page and "83.2 %" in page and "red/0.png" in page


def test_ray_and_this_process_give_the_same_bytes(any_cluster: Cluster, store: Store, tmp_path: Path) -> None:
    rows = chosen(paint(tmp_path / "data", 2), *TWO)
    checkpoint = make_towers(store)
    alone = measured(store, tmp_path, checkpoint, rows, "alone")
    spread = measured(store, tmp_path, checkpoint, rows, "spread", any_cluster)
    assert [part.files for part in spread.parts] == [part.files for part in alone.parts]
    assert spread.totals == alone.totals


def test_a_stopped_run_goes_on_with_what_is_missing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = chosen(paint(tmp_path / "data", 2), *TWO)
    checkpoint = make_towers(store)
    done: list[str] = []
    real = benchmark.measure_row

    def stumbling(name: str, work: benchmark.Work) -> Any:
        if len(done) == 1 and "killed" not in done:
            done.append("killed")
            raise KeyboardInterrupt
        done.append(name)
        return real(name, work)

    monkeypatch.setattr(benchmark, "measure_row", stumbling)
    with pytest.raises(KeyboardInterrupt):
        measured(store, tmp_path, checkpoint, rows)
    made = measured(store, tmp_path, checkpoint, rows)
    assert done == [sorted(rows)[0], "killed", sorted(rows)[1]]
    whole = measured(store, tmp_path, checkpoint, rows, "whole")
    assert [part.files for part in whole.parts] == [part.files for part in made.parts]


def test_what_a_model_said_once_is_not_asked_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    see = InternVL.see

    def counted(model: InternVL, pixels: Tensor, *given: Any) -> Tensor:
        seen.append(len(pixels))
        return see(model, pixels, *given)

    monkeypatch.setattr(InternVL, "see", counted)
    rows = chosen(paint(tmp_path / "data", 2), *TWO)  # two benchmarks, equal data
    checkpoint = make_towers(store)
    first = measured(store, tmp_path, checkpoint, rows)
    assert sum(seen) == 8 and len(store.keys("remembered")) >= 1
    again = measured(store, tmp_path, checkpoint, rows, "again")
    assert sum(seen) == 8 and again.totals == first.totals


def test_changed_data_are_refused_and_are_another_result(store: Store, tmp_path: Path) -> None:
    place = paint(tmp_path / "data", 2)
    rows = chosen(place, TWO[0])
    checkpoint = make_towers(store)
    spec = materialize.StageSpec(
        stage="benchmark",
        artifact=Ref(name="benchmarks/contrastive", version="t"),
        parameters=benchmark.Parameters(rows=rows).model_dump(mode="json"),
        inputs=(checkpoint.ref,),
    )
    made = materialize.materialize(spec, store, InlineCluster())
    assert materialize.materialize(spec, store, InlineCluster()) == made
    plain("white").save(place / "val" / "red" / "0.png")
    with pytest.raises(ManifestError, match=r"are not what was chosen: their digest is [0-9a-f]{12} now and was"):
        measured(store, tmp_path, checkpoint, rows, "later")
    changed = spec.model_copy(
        update={"parameters": benchmark.Parameters(rows=chosen(place, TWO[0])).model_dump(mode="json")}
    )
    with pytest.raises(materialize.Drift, match=r"rows\.colours\.zero_shot_classification\.en\.data: \w+ -> \w+"):
        materialize.materialize(changed, store, InlineCluster())


def test_only_models_of_ours_are_measured(store: Store, tmp_path: Path) -> None:
    rows = chosen(paint(tmp_path / "data", 2), TWO[0])
    language = make_towers(store, "language")
    with pytest.raises(ManifestError, match="checkpoints/language@t was made by stage language; benchmarks measure"):
        measured(store, tmp_path, language, rows)
