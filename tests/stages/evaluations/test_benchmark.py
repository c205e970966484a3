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
from stages.evaluations.choice import Choice
from stages.evaluations.results import read_confusion, read_result, read_scores, read_shown
from stages.manifest import Manifest, ManifestError, load, verify
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
    spec = asked(checkpoint, rows)
    made = materialize.materialize(spec, store, InlineCluster())
    assert materialize.materialize(spec, store, InlineCluster()) == made
    plain("white").save(place / "val" / "red" / "0.png")
    with pytest.raises(ManifestError, match=r"are not what was chosen: their digest is [0-9a-f]{12} now and was"):
        measured(store, tmp_path, checkpoint, rows, "later")
    changed = asked(checkpoint, chosen(place, TWO[0]))
    with pytest.raises(materialize.Drift, match=r"rows\.colours\.zero_shot_classification\.en\.data: \w+ -> \w+"):
        materialize.materialize(changed, store, InlineCluster())


def asked(checkpoint: Manifest, rows: dict[str, Choice]) -> materialize.StageSpec:
    return materialize.StageSpec(
        stage="benchmark",
        artifact=Ref(name="benchmarks/contrastive", version="t"),
        parameters=benchmark.Parameters(rows=rows).model_dump(mode="json"),
        inputs=(checkpoint.ref,),
    )


def test_another_benchmark_joins_those_that_stand(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = paint(tmp_path / "data", 2)
    one, two = (chosen(place, spec) for spec in TWO)
    checkpoint = make_towers(store)
    first = materialize.materialize(asked(checkpoint, one), store, InlineCluster())
    real, done = benchmark.measure_row, list[str]()

    def counted(name: str, work: benchmark.Work) -> Any:
        done.append(name)
        if len(done) == 1:
            raise KeyboardInterrupt
        return real(name, work)

    monkeypatch.setattr(benchmark, "measure_row", counted)
    with pytest.raises(KeyboardInterrupt):
        materialize.materialize(asked(checkpoint, two), store, InlineCluster())
    assert load(store, first.ref) == first, "a run that is stopped leaves what stood"
    both = materialize.materialize(asked(checkpoint, two), store, InlineCluster())
    assert done == [*two, *two], "rows that stand are not measured again"
    assert load(store, first.ref) == both and verify(store, both) == []
    assert both.parts[:1] == first.parts and [part.key for part in both.parts] == [*one, *two]
    assert both.identity["parameters"]["rows"].keys() == {*one, *two} and both.ledger.listed == 16
    assert all(f"| Plain {spec.name} | en | top1 |" in both.totals["markdown"] for spec in TWO)
    assert all(spec.title in page_of(store, both) for spec in TWO)
    for rows in (one, two, one | two):
        assert materialize.standing(asked(checkpoint, rows), store) == both
    monkeypatch.setattr(benchmark, "measure_row", real)
    alone = materialize.materialize(asked(checkpoint, two), store, InlineCluster(), force=True)
    assert [part.key for part in alone.parts] == [*two], "by force, what is asked for replaces what stands"


@pytest.mark.parametrize("change", [{"limit": 4}, {"settings": {}}, {"data": "0" * 64}, {"place": "elsewhere"}])
def test_a_row_that_stands_is_not_changed_by_one_that_joins(
    store: Store, tmp_path: Path, change: dict[str, Any]
) -> None:
    place = paint(tmp_path / "data", 2)
    one, two = (chosen(place, spec) for spec in TWO)
    checkpoint = make_towers(store)
    first = materialize.materialize(asked(checkpoint, one), store, InlineCluster())
    changed = {name: choice.model_copy(update=change) for name, choice in one.items()}
    (field,) = change
    with pytest.raises(materialize.Drift, match=rf"rows\.colours\.zero_shot_classification\.en\.{field}"):
        materialize.materialize(asked(checkpoint, changed | two), store, InlineCluster())
    assert load(store, first.ref) == first


def test_a_benchmark_of_ones_own_has_one_description(tmp_path: Path) -> None:
    place = paint(tmp_path / "data", 1)
    (one,), (other,) = (chosen(place, colours("colours", title=title)).values() for title in ("A", "B"))
    with pytest.raises(ValueError, match=r"colours is described in two ways.* --new-version NAME"):
        benchmark.Parameters(rows={"a": one, "b": other})


def test_only_models_of_ours_are_measured(store: Store, tmp_path: Path) -> None:
    rows = chosen(paint(tmp_path / "data", 2), TWO[0])
    language = make_towers(store, "language")
    with pytest.raises(ManifestError, match="checkpoints/language@t was made by stage language; benchmarks measure"):
        measured(store, tmp_path, language, rows)
