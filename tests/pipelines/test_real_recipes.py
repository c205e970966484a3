"""The recipes of real size: the paper's numbers, what they cost, and what is said when something is missing."""

import json
from pathlib import Path
from typing import Any

import pytest
from pretrained_folders import write
from typer.testing import CliRunner

from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines.cli import app
from pipelines.graph import Step, data_steps, train_steps
from pipelines.missing import missing
from pipelines.names import FlowName, RecipeName, SourceName
from pipelines.options import own_data
from pipelines.plan import preflight, steps_of
from pipelines.recipes import OwnData, make
from pipelines.recipes.recipe import Recipe
from pipelines.training_price import Training, training_prices
from stages.manifest import ManifestError
from stages.materialize import materialize, module_of, standing
from stages.training.accumulating import check
from stages.workspace import Placement

REAL = (RecipeName.ONE_GPU, RecipeName.PAPER)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def steps(recipe: RecipeName) -> list[Step]:
    return steps_of(FlowName.INTERNVL, recipe)


@pytest.mark.parametrize("name", REAL)
def test_a_recipe_is_the_same_each_time_and_comes_back_from_its_json(name: RecipeName) -> None:
    recipe = make(name)
    text = recipe.model_dump_json()
    assert text == make(name).model_dump_json()
    assert Recipe.model_validate_json(text) == recipe
    for step in steps(name):
        module_of(step.spec.stage).Parameters.model_validate(step.spec.parameters)
        Placement(**step.spec.placement)
    assert {source.name for source in recipe.sources} <= set(SourceName)


@pytest.mark.parametrize("name", REAL)
def test_batches_divide_over_workers_and_micro_batches(name: RecipeName) -> None:
    for step in train_steps(make(name), "t"):
        if (schedule := step.spec.parameters.get("schedule")) and step.spec.placement:
            placement = Placement(**{**step.spec.placement, "min_workers": step.spec.placement["workers"]})
            check(placement, schedule["global_batch_size"])


def test_the_paper_s_stages_have_the_paper_s_numbers() -> None:
    found: dict[str, Any] = {step.spec.stage: step.spec for step in train_steps(make(RecipeName.PAPER), "t")}
    first, second = found["contrastive"].parameters, found["generative"].parameters
    # arXiv:2312.14238, section 3.3 and the appendix's training settings.
    expected = {
        "global_batch_size": 163_840, "steps": 175_000, "learning_rate": 1e-3, "warmup_steps": 5000,
        "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "precision": "bf16", "rewarm_at": 171_948,
    }  # fmt: skip
    assert {name: first["schedule"][name] for name in expected} == expected
    shown = {
        "image_size": 224, "masked_image_size": 196, "mask_ratio": 0.5, "drop_path_rate": 0.2, "patch_size": 14,
        "text_learning_rate_scale": 0.1, "hidden_size": 3200, "num_hidden_layers": 48, "embed_dim": 768,
        "context_length": 80, "start_vision": None,
    }  # fmt: skip
    assert {name: first[name] for name in shown} == shown
    unmasked = first["unmasked_steps"] * first["schedule"]["global_batch_size"]
    assert unmasked == pytest.approx(0.5e9, rel=1e-3)
    expected = {
        "global_batch_size": 20_480, "steps": 80_000, "learning_rate": 5e-5, "warmup_steps": 2000,
        "weight_decay": 0.05, "beta1": 0.9, "beta2": 0.98, "precision": "bf16",
    }  # fmt: skip
    assert {name: second["schedule"][name] for name in expected} == expected
    assert (second["num_query_token"], second["cross_attention_frequency"]) == (96, 2)
    assert second["query_start"] == "random" and second["shards"] == "shards/caption_quality"
    assert [found[stage].placement["workers"] for stage in ("contrastive", "generative")] == [640, 160]
    assert all(found[stage].placement["sharding"] == "fsdp2" for stage in ("contrastive", "generative"))
    whole = found["language"].parameters["pretrained_shape"]
    assert (whole["hidden_size"], whole["num_hidden_layers"], whole["vocab_size"]) == (4096, 32, 49_954)


def test_the_paper_has_the_eight_sources_of_its_table_by_their_schemas(home: Path) -> None:
    listed = {each.name: each.listing for each in make(RecipeName.PAPER).sources}
    assert set(listed) == {"laion_en", "laion_coco", "coyo", "cc12m", "cc3m", "sbu", "wukong", "laion_multi"}
    assert listed["laion_en"].adapter == "re_laion" and listed["laion_en"].language == "en"
    assert listed["coyo"].paths == (f"{home}/lists/coyo/*",)
    taken = make(RecipeName.PAPER, OwnData(accept_withdrawn=True, lists="s3://bucket/lists"))
    again = {each.name: each.listing for each in taken.sources}
    assert (again["laion_en"].adapter, again["laion_multi"].adapter) == ("laion2b_en", "laion2b_multi")
    assert again["sbu"].paths == ("s3://bucket/lists/sbu/*",)
    strict = {each.name: len(each.caption_quality.filters) for each in taken.sources}
    assert [name for name, rules in strict.items() if rules] == ["laion_en", "coyo", "laion_multi"]
    scored = {
        step.artifact: step.spec.parameters["clip_model"] for step in data_steps(taken, "v") if "score" in step.label
    }
    assert {name.partition("/")[2] for name, tower in scored.items() if "xlm-roberta" in tower} == {
        "wukong",
        "laion_multi",
    }
    assert len(set(scored.values())) == 2 and len(scored) == 8


@pytest.fixture(scope="module")
def paper() -> dict[str, Training]:
    return {each.stage: each for each in training_prices(steps(RecipeName.PAPER))}


def test_the_plan_counts_what_the_paper_counts(paper: dict[str, Training]) -> None:
    # Section 3.2 and table 1: InternVL-C 13B, InternVL-G 14B of which 1B learn; the counts are of the tensors.
    assert paper["contrastive"].parameters == paper["contrastive"].trained == 12_620_029_697
    assert paper["generative"].parameters == 13_834_975_747
    assert paper["generative"].trained == 1_010_334_467
    # QLLaMA less its cross-attention is the LLaMA that it is made of.
    assert paper["language"].parameters == 7_841_912_832 - 956_418_048 and not paper["language"].trained
    assert paper["contrastive"].samples == pytest.approx(28.7e9, rel=2e-3)
    assert paper["generative"].samples == pytest.approx(1.6e9, rel=0.03)


def test_the_plan_s_compute_is_that_of_the_layers(paper: dict[str, Training]) -> None:
    # By the layers' formulas: 587.3, 1536.6 and 519.8 GMAC for a masked picture, a whole one and a text.
    whole, masked = 3052 * 163_840, (175_000 - 3052) * 163_840
    by_hand = 6e9 * (masked * (587.3 + 519.8) + whole * (1536.6 + 519.8))
    assert paper["contrastive"].flops == pytest.approx(by_hand, rel=0.005)
    assert paper["contrastive"].flops == pytest.approx(1.93e23, rel=0.01)
    # Four passes of 176 tokens cost 4.0e22; sharing the queries' pass saves one of them.
    assert 0.75 * 4.0e22 < paper["generative"].flops < 4.0e22
    days = paper["contrastive"].gpu_hours("A100") / 640 / 24
    assert days == pytest.approx(28, abs=0.5)


def test_a_plan_moves_with_what_it_prices() -> None:
    found = {step.spec.stage: step for step in train_steps(make(RecipeName.ONE_GPU), "t")}
    usual = {each.stage: each for each in training_prices(list(found.values()))}
    assert usual["contrastive"].gpus == 1
    frozen = _with(found["contrastive"], text_learning_rate_scale=0.0, mask_ratio=0.0)
    still = {each.stage: each for each in training_prices([*found.values(), frozen])}
    assert still["contrastive"].trained < usual["contrastive"].trained == usual["contrastive"].parameters
    more = _with(found["instruct"], train_vision=False, max_dynamic_patch=6)
    tiled = {each.stage: each for each in training_prices([*found.values(), more])}
    assert tiled["instruct"].trained < usual["instruct"].trained
    assert training_prices(data_steps(make(RecipeName.ONE_GPU), "t")) == []


def _with(step: Step, **changes: Any) -> Step:
    return step.changed(parameters={**step.spec.parameters, **changes})


@pytest.mark.parametrize("name", REAL)
def test_plan_prints_models_and_compute_and_touches_no_data(name: RecipeName, home: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "--recipe", str(name)])
    assert result.exit_code == 0, result.output
    assert "A100 hours" in result.output and "a language model is looked for in" in result.output
    if name is RecipeName.PAPER:
        assert "12,620,029,697" in result.output and "13,834,975,747" in result.output
        told = json.loads(CliRunner().invoke(app, ["plan", "--recipe", "paper", "--json"]).stdout)
        trained = ["language", "contrastive", "generative", "align", "instruct"]
        assert [each["stage"] for each in told["training"]] == trained
    assert not (home / "store").exists() or not any((home / "store").rglob("*.json"))


def test_a_run_without_its_lists_says_what_goes_where(home: Path) -> None:
    store = Store(str(home / "store"))
    with pytest.raises(ManifestError) as told:
        preflight(steps(RecipeName.PAPER), store)
    lines = str(told.value).splitlines()[1:]
    assert len(lines) == 9, "eight lists and a language model"
    assert f"put COYO-700M (128 parquet files; columns: internvl sources coyo) in {home}/lists/coyo/*" in lines[2]
    assert f"looked for in {home}/models/llama" in lines[-1]
    (home / "lists" / "coyo").mkdir(parents=True)
    (home / "lists" / "coyo" / "part.parquet").write_bytes(b"")
    left = missing(steps(RecipeName.PAPER), store)
    assert len(left) == 8 and not any("coyo" in line for line in left)
    with pytest.raises(ManifestError, match=r"source own has no list: give --urls"):
        preflight(steps(RecipeName.ONE_GPU), store)
    assert not missing(steps(RecipeName.TINY), store)


def test_a_hub_name_is_the_language_stage_s_to_ask(home: Path) -> None:
    own = OwnData(language_model="owner/name", vision_model=str(home / "nothing"), urls=(__file__,))
    left = missing(steps_of(FlowName.TRAIN, RecipeName.ONE_GPU, "", own), Store(str(home / "store")))
    assert len(left) == 1 and left[0].startswith("a vision tower is looked for")


def test_local_names_become_absolute_and_names_of_the_hub_stay(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    (home / "llama").mkdir()
    own = own_data(None, "url", "text", None, None, lists="lists", language_model="llama", vision_model="vit")
    assert (own.lists, own.language_model) == (str(home / "lists"), str(home / "llama"))
    assert own.vision_model == str(home / "vit")
    named = own_data(None, "url", "text", None, None, language_model="Qwen/Qwen2-0.5B")
    assert named.language_model == "Qwen/Qwen2-0.5B" and not named.lists


def test_models_of_a_user_need_to_be_named_once(home: Path) -> None:
    store = Store(settings().store_root)
    write(home / "given")
    own = OwnData(language_model=str(home / "given"))
    (first,) = [
        step for step in steps_of(FlowName.TRAIN, RecipeName.ONE_GPU, "", own) if step.spec.stage == "language"
    ]
    materialize(first.spec, store, InlineCluster(), progress=False)
    again = steps_of(FlowName.TRAIN, RecipeName.ONE_GPU)
    assert again[0].spec == first.spec
    assert standing(again[0].spec, store) is not None and not missing(again, store)
    priced = {each.stage: each for each in training_prices(again)}
    assert priced["contrastive"].parameters < 400_000_000, "counted with the language model that was given"


def test_what_a_recipe_does_not_take_is_refused(home: Path) -> None:
    with pytest.raises(ValueError, match="trains its models from nothing"):
        make(RecipeName.TINY, OwnData(language_model="a/b"))
    with pytest.raises(ValueError, match="no use for the paper's lists"):
        make(RecipeName.ONE_GPU, OwnData(lists=str(home)))
    with pytest.raises(ValueError, match="brings its own data"):
        make(RecipeName.PAPER, OwnData(urls=("a.csv",)))
