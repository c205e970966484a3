"""What the score stage saw of benchmarks among the pictures that a checkpoint was trained on."""

import hashlib
import json
import shlex
from pathlib import Path

import pyarrow as pa
import pytest
from measured_worlds import chosen, colours, make_towers, measured, paint

from infra.storage import Store
from stages.evaluations.choice import Choice
from stages.evaluations.leaks import leaks, set_of
from stages.manifest import Ledger, Manifest
from stages.ref import Ref
from stages.workspace import Output, parquet_bytes


def uid(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:16]


def table(store: Store, name: str, role: str, rows: pa.Table, identity: dict[str, object]) -> Manifest:
    output = Output(store, Ref(name=name, version="t"), name.partition("/")[0], {"inputs": {}, **identity})
    ledger = Ledger(listed=rows.num_rows, kept=rows.num_rows)
    return output.commit([output.part("0", "d", ledger, {role: (f"{role}.parquet", parquet_bytes(rows))})])


def road(store: Store, sets: dict[str, str], hits: dict[int, str], kept: range) -> tuple[Manifest, Manifest]:
    """Return signals of ten samples and a checkpoint trained on shards of some of them."""
    values = pa.array([hits.get(number) for number in range(10)], pa.string())
    rows = pa.table({"uid": pa.array([uid(n) for n in range(10)], pa.binary(16)), "value": values})
    signals = table(store, "signals/web", "eval_hit", rows, {"parameters": {"evaluation_sets": sets}})
    index = pa.table({"uid": pa.array([uid(number) for number in kept], pa.binary(16))})
    shards = table(store, "shards/clean", "index", index, {"inputs": {"signals/web": signals.digest}})
    again = table(store, "shards/fewer", "index", index.slice(0, 2), {"inputs": {"shards/clean": shards.digest}})
    return signals, make_towers(store, **{"shards/clean": shards.digest, "shards/fewer": again.digest})


def choice(name: str, place: str = "/data") -> Choice:
    return Choice(benchmark=name, own=colours(name), protocol="zero_shot_classification", place=place, data="d" * 64)


def test_repeated_pictures_are_counted_in_what_was_scored_and_in_what_was_trained_on(store: Store) -> None:
    hits = {1: "cars/a.png", 2: "cars/a.png", 7: "cars/b.png", 8: "pets/x.png"}
    _, checkpoint = road(store, {"cars": "/elsewhere", "mine": "/data"}, hits, range(5))
    rows = {"a": choice("cars"), "b": choice("pets"), "c": choice("flowers", "/other"), "d": choice("cars", "/more")}
    cars, flowers, pets = leaks(store, checkpoint, rows)
    assert (cars.benchmark, cars.checked, cars.listed, cars.trained) == ("cars", True, 3, 2)
    assert cars.said == "3 of the samples scored repeat a picture of it, 2 of them are in the training shards"
    # A set is known by its place too: what lies there is called otherwise by the score stage, and was not hit.
    assert (pets.checked, pets.listed, pets.trained) == (True, 0, 0)
    assert not flowers.checked and "not among the sets of the score stage" in flowers.said
    named = '{"cars": "/elsewhere", "mine": "/data", "flowers": "/other"}'
    assert f"--set 'evaluation_sets={named}'" in flowers.said, "what is named already would be lost"


def test_one_command_names_all_sets_that_are_missing(store: Store) -> None:
    _, checkpoint = road(store, {}, {}, range(5))
    told = leaks(store, checkpoint, {"a": choice("cars", "/cars"), "b": choice("pets", "/it's")})
    (said,) = {each.said for each in told}
    (words,) = [shlex.split(said.partition("internvl rerun score --set ")[2])]
    assert json.loads(words[0].partition("=")[2]) == {"cars": "/cars", "pets": "/it's"}


def test_a_set_is_a_benchmarks_by_name_or_by_place(tmp_path: Path) -> None:
    here = choice("cars", str(tmp_path))
    assert set_of(here, {"cars": "/x", "other": str(tmp_path)}) == "cars"
    assert set_of(here, {"other": str(tmp_path / "." / "")}) == "other"
    assert set_of(here, {"other": "/x"}) is None


def test_what_is_gone_is_said_and_not_taken_for_clean(store: Store) -> None:
    _, checkpoint = road(store, {"cars": "/x"}, {1: "cars/a.png"}, range(5))
    store.remove("signals/web")
    (found,) = leaks(store, checkpoint, {"a": choice("cars")})
    assert not found.checked and "signals that its shards were chosen by are not in the store" in found.said
    store.remove("shards")
    (found,) = leaks(store, checkpoint, {"a": choice("cars")})
    assert not found.checked and "no shards of the data road" in found.said


@pytest.mark.parametrize("trained", [True, False])
def test_a_leak_is_on_the_page_and_among_the_numbers(store: Store, tmp_path: Path, trained: bool) -> None:
    _, checkpoint = road(store, {"colours": "/x"}, {1 if trained else 9: "colours/a.png"}, range(5))
    made = measured(store, tmp_path, checkpoint, chosen(paint(tmp_path / "data", 2), colours()))
    page = store.read(made.key(made.reports["page"])).decode()
    assert made.totals["leaked"] == int(trained)
    assert ("1 of these benchmarks have pictures in the training shards" in page) == trained
    assert ("Trained on it: colours: 1 of the samples" in made.totals["markdown"]) == trained
