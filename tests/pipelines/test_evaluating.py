"""From the command line to a table and a page: what is found, what is asked for, what is refused and why."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "stages" / "evaluations"))

from measured_worlds import colours, make_towers, paint

from infra.storage import Store
from pipelines import deploy, evaluation_price, pages
from pipelines.choosing import How, choices, silent
from pipelines.cli import app
from pipelines.graph import train_steps
from pipelines.measuring import of_recipe
from pipelines.names import RecipeName
from pipelines.recipes import make
from pipelines.wanted import Wanted
from stages import benchmark
from stages.evaluations.registry import Row
from stages.manifest import ManifestError, load
from stages.ref import Ref

RUNNER = CliRunner()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return the store of an installation of its own."""
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INTERNVL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "200")
    return Store(str(tmp_path / "store"))


def internvl(*words: object) -> Any:
    return RUNNER.invoke(app, [str(word) for word in words])


def described(folder: Path, name: str = "colours", **more: Any) -> Path:
    """Write the description of a dataset of one's own."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(colours(name, **more).model_dump(mode="json")))
    return path


def in_two_splits(folder: Path, per_class: int) -> Path:
    """Paint a dataset that a head can be trained on."""
    place = folder / "split"
    place.mkdir()
    for part in ("train", "val"):
        (paint(folder / f"only {part}", per_class) / "val").rename(place / part)
    return place


def test_a_checkpoint_on_own_data_prints_its_table_and_its_page(home: Store, tmp_path: Path) -> None:
    make_towers(home)
    paint(tmp_path / "data" / "colours", 3)
    words = ("evaluate", "checkpoints/contrastive@t", "--data", tmp_path / "data", "--own", described(tmp_path))
    told = internvl(*words)
    assert told.exit_code == 0, told.output
    assert re.search(r"colours\s+│\s+en\s+│\s+top1\s+│\s+[\d.]+ %", told.output)
    assert "83.2 %" in told.output and "colours: not checked: no shards" in told.output
    made = load(home, Ref.model_validate("benchmarks/contrastive@t"))
    page = made.key(made.reports["page"])
    shown = pages.markdown("benchmark contrastive", made, "http://reports")
    assert "| Zero-shot image classification | Plain colours | en | top1 |" in shown
    assert f"[Open the full report](http://reports/{page})" in shown
    assert home.path(page) in told.output.replace("\n", "")
    for command in ("show", "verify"):
        assert internvl(command, made.ref).exit_code == 0
    again = internvl(*words)
    assert again.exit_code == 0 and again.output == told.output


def test_a_part_of_the_data_in_another_way_is_another_version(home: Store, tmp_path: Path) -> None:
    make_towers(home)
    own = described(tmp_path)
    at = ("--at", f"colours={paint(tmp_path / 'data', 3)}", "--own", own)
    assert internvl("evaluate", "checkpoints/contrastive@t", *at).exit_code == 0
    less = (*at, "--limit", 5, "--set", "zero_shot_classification.shown=1")
    refused = internvl("evaluate", "checkpoints/contrastive@t", *less)
    assert refused.exit_code == 2 and "limit: null -> 5" in refused.output and "--new-version" in refused.output
    assert internvl("evaluate", "checkpoints/contrastive@t", *less, "--new-version", "few").exit_code == 0
    made = load(home, Ref.model_validate("benchmarks/contrastive@few"))
    assert made.ledger.listed == 5
    (row,) = made.identity["parameters"]["rows"].values()
    assert row["settings"]["shown"] == 1 and row["limit"] == 5
    assert "replace it with --force" in " ".join(refused.output.split())
    assert internvl("evaluate", "checkpoints/contrastive@t", *less, "--force").exit_code == 0
    assert load(home, Ref.model_validate("benchmarks/contrastive@t")).ledger.listed == 5


def test_a_second_benchmark_joins_the_evaluation(home: Store, tmp_path: Path) -> None:
    make_towers(home)
    at = f"={paint(tmp_path / 'data', 1)}"
    for name in ("colours", "paints"):
        own = described(tmp_path, name)
        told = internvl("evaluate", "checkpoints/contrastive@t", "--benchmark", name, "--at", name + at, "--own", own)
        assert told.exit_code == 0, told.output
    assert re.search(r"colours\s+│\s+en\s+│\s+top1", told.output) and re.search(r"paints\s+│\s+en", told.output)
    assert len(load(home, Ref.model_validate("benchmarks/contrastive@t")).parts) == 2


def test_two_checkpoints_are_compared_by_name(home: Store, tmp_path: Path) -> None:
    at = ("--at", f"colours={paint(tmp_path / 'data', 3)}", "--own", described(tmp_path))
    for seed, version in enumerate(("a", "b")):
        make_towers(home, version=version, seed=seed)
        assert internvl("evaluate", f"checkpoints/contrastive@{version}", *at).exit_code == 0
    told = internvl("compare", "checkpoints/contrastive@a", "benchmarks/contrastive@b", "--json")
    assert told.exit_code == 0, told.output
    first = json.loads(told.output)["differences"][0]
    assert first["measure"] == "top1" and first["n"] == 12 and first["low"] <= first["value"] <= first["high"]
    table = internvl("compare", "checkpoints/contrastive@a", "checkpoints/contrastive@b")
    assert table.exit_code == 0 and "top1" in table.output and f"{first['p']:.4f}" in table.output
    make_towers(home, version="c", seed=3)
    lost = internvl("compare", "checkpoints/contrastive@a", "checkpoints/contrastive@c")
    assert lost.exit_code == 2 and "make it: internvl evaluate checkpoints/contrastive@c --data FOLDER" in lost.output
    less = internvl("evaluate", "checkpoints/contrastive@c", *at, "--limit", 5)
    assert less.exit_code == 0
    other = internvl("compare", "checkpoints/contrastive@a", "checkpoints/contrastive@c")
    assert other.exit_code == 2 and "the data differ" in other.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name a checkpoint"),
        (("checkpoints/contrastive@t",), "no data were given. This checkpoint can be measured on"),
        (("checkpoints/contrastive@t", "--data", "{empty}"), "holds no benchmark's data. This checkpoint can be"),
        (("checkpoints/contrastive@t", "--benchmark", "cifar10"), "the data of cifar10 are not there: "),
        (
            ("checkpoints/contrastive@t", "--benchmark", "cifar"),
            "no benchmark is named 'cifar'; did you mean",
        ),
        (("checkpoints/contrastive@t", "--at", "cifar10"), "--at 'cifar10' names no place; write it as NAME=PATH"),
        (
            ("checkpoints/contrastive@t", "--at", "vqav2={empty}"),
            "vqav2 cannot be measured on this",
        ),
        (
            ("checkpoints/contrastive@t", "--set", "shown=1"),
            "--set shown names no setting; write",
        ),
        (("checkpoints/contrastive@nope", "--data", "{empty}"), "checkpoints/contrastive@nope is not in"),
        (("checkpoints/language@t", "--data", "{empty}"), "was made by stage language; benchmarks measure what"),
    ],
)
def test_refusals_say_what_to_do(home: Store, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    make_towers(home)
    make_towers(home, "language")
    (tmp_path / "empty").mkdir()
    told = internvl("evaluate", *(word.format(empty=tmp_path / "empty") for word in words))
    assert told.exit_code == 2 and said in told.output, told.output


def test_settings_are_checked_before_anything_runs(home: Store, tmp_path: Path) -> None:
    at = {"colours": paint(tmp_path / "data", 1)}
    own = (described(tmp_path),)
    given = Wanted(at=at, own=own, changes={"zero_shot_classification": {"show": 1}})
    with pytest.raises(ManifestError, match=r"zero_shot_classification\.show: .*its settings are .*shown"):
        choices("contrastive", given)
    with pytest.raises(ManifestError, match=r"--set retrieval\.\* changes nothing: no row of colours\.zero_shot"):
        choices("contrastive", Wanted(at=at, own=own, changes={"retrieval": {"shown": 1}}))


def test_what_only_an_internvl_g_can_is_asked_of_no_other(home: Store) -> None:
    given = Wanted(changes={"retrieval": {"queries": True}})
    with pytest.raises(
        ManifestError, match=r"--set retrieval\.queries=true is InternVL-G's .* is contrastive; leave"
    ):
        choices("contrastive", given)


@pytest.mark.parametrize(("shown", "left"), [(1, "colours.{}.en.2"), (12, "colours.{}.en"), (3, "colours.{}.en.2")])
def test_rows_that_settings_make_alike_are_measured_once(home: Store, tmp_path: Path, shown: int, left: str) -> None:
    protocol = "zero_shot_classification"
    rows = [{"protocol": protocol, "settings": {"templates": ["{c}"], "shown": each}} for each in (1, 12)]
    given = {"at": {"colours": paint(tmp_path / "data", 1)}, "own": (described(tmp_path, rows=rows),)}
    assert len(choices("contrastive", Wanted.model_validate(given)).rows) == 2
    found = choices("contrastive", Wanted.model_validate({**given, "changes": {protocol: {"shown": shown}}}))
    assert found.left_out.keys() == {left.format(protocol)} and len(found.rows) == 1
    (kept,) = found.rows
    assert found.left_out[left.format(protocol)].endswith(f"the same measurement as {kept}")


def test_own_data_cannot_take_the_name_of_a_benchmark(home: Store, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="--own describes cifar10, which is a benchmark of the paper; give it"):
        choices("contrastive", Wanted(own=(described(tmp_path, "cifar10"),)))


def test_a_row_whose_training_data_lack_is_left_out_and_named(home: Store, tmp_path: Path) -> None:
    asked = {"protocol": "zero_shot_classification", "settings": {"templates": ["{c}"]}}
    rows = (asked, {"protocol": "linear_probe"})
    own = described(tmp_path, rows=rows)
    found = choices("contrastive", Wanted(at={"colours": paint(tmp_path / "data", 1)}, own=(own,)))
    assert list(found.rows) == ["colours.zero_shot_classification.en"]
    assert "has no train split" in found.left_out["colours.linear_probe.en"]


def test_a_recipe_is_measured_by_its_own_steps_and_on_what_is_found(home: Store, tmp_path: Path) -> None:
    alone = of_recipe(RecipeName.TINY, Wanted())
    assert [step.artifact for step in alone.steps] == [
        "evaluations/contrastive", "evaluations/generative", "evaluations/instruct",
    ]  # fmt: skip
    paint(tmp_path / "data" / "colours", 1)
    wanted = Wanted(data=tmp_path / "data", own=(described(tmp_path),))
    steps = of_recipe(RecipeName.TINY, wanted, "v9").steps
    made = [str(step.spec.artifact) for step in steps[3:]]
    assert made == ["benchmarks/contrastive@v9", "benchmarks/generative@v9"]
    assert [str(ref) for ref in steps[3].spec.inputs] == ["checkpoints/contrastive@v9"]


def test_a_recipe_settles_how_small_heads_are_trained(home: Store, tmp_path: Path) -> None:
    """A recipe's settings go before the paper's, a user's description before them, the command line before all."""
    place = in_two_splits(tmp_path, 1)
    rows = ({"protocol": "linear_probe", "settings": {"epochs": 7}},)
    own = described(tmp_path, rows=rows)
    row = "colours.linear_probe.en"

    def settings(**changes: Any) -> dict[str, Any]:
        wanted = Wanted(at={"colours": place}, own=(own,), changes={"linear_probe": changes} if changes else {})
        steps = of_recipe(RecipeName.PHOTOS, wanted, "v1").steps
        return dict(steps[3].spec.parameters["rows"][row]["settings"])

    usual = make(RecipeName.PHOTOS).protocols["linear_probe"]
    found = settings()
    assert found["epochs"] == 7 and found["augment"] is usual["augment"] is False
    assert settings(augment=True, epochs=3, warmup_epochs=1)["augment"] is True
    plain = choices("contrastive", Wanted(at={"colours": place}, own=(own,)))
    assert plain.rows[row].settings["augment"] is True, "a checkpoint by name is measured as the paper did"
    assert plain.sizes[row][:2] == (4, 4)
    published = How(place, own=False, wanted=Wanted(), usual={"linear_probe": usual}, told=silent)
    assert published.given(Row.model_validate(rows[0]))["epochs"] == usual["epochs"] == 30


def test_what_heads_cost_is_said_before_they_are_trained(
    home: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_towers(home)
    place = in_two_splits(tmp_path, 2)
    rows = ({"protocol": "linear_probe", "settings": {"epochs": 3}},)
    words = ("evaluate", "checkpoints/contrastive@t", "--at", f"colours={place}")
    words = (*words, "--own", described(tmp_path, rows=rows))
    told = internvl(*words)
    assert told.exit_code == 0, told.output
    assert re.search(
        r"benchmarks/contrastive@t: 1 rows of 8 examples; heads are trained for about \d+ s", told.output
    )
    assert "shorter:" not in told.output
    monkeypatch.setattr(evaluation_price, "LONG_SECONDS", 0.0)
    told = internvl(*words)
    assert "colours.linear_probe.en: 80 pictures through an encoder" in told.output
    assert "shorter: --limit N; --set linear_probe.augment=false" in told.output


def test_a_folder_of_descriptions_is_all_of_them(tmp_path: Path) -> None:
    both = [described(tmp_path, name) for name in ("colours", "paints")]
    assert list(Wanted.of(own=(str(tmp_path),)).own) == both
    (tmp_path / "none").mkdir()
    with pytest.raises(ManifestError, match=r"is a folder without descriptions; put NAME\.yaml into it"):
        Wanted.of(own=(str(tmp_path / "none"),))


def test_a_recipe_may_name_benchmarks(home: Store, tmp_path: Path) -> None:
    at = {"colours": paint(tmp_path / "data", 1)}
    rows = choices("contrastive", Wanted(at=at, own=(described(tmp_path),))).rows
    named = make(RecipeName.TINY).model_copy(update={"benchmarks": {"contrastive": benchmark.Parameters(rows=rows)}})
    found = {step.artifact: step.spec for step in train_steps(named, "v1")}
    spec = found["benchmarks/contrastive"]
    assert spec.stage == "benchmark" and [str(ref) for ref in spec.inputs] == ["checkpoints/contrastive@v1"]
    assert benchmark.Parameters.model_validate(spec.parameters).rows == rows
    assert not any(step.spec.stage == "benchmark" for step in train_steps(make(RecipeName.TINY), "v1"))


def test_the_flow_is_a_form() -> None:
    assert "evaluate" in [each.name for each in deploy.deployments()]
