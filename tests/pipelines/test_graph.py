from pathlib import Path

import pytest

from infra.cluster import InlineCluster
from infra.storage import Store
from pipelines.graph import Step, data_steps, everything_after, everything_before, with_version
from pipelines.names import FlowName, RecipeName, SourceName
from pipelines.plan import preflight, steps_of
from pipelines.recipes import NO_DATA, OwnData, make
from pipelines.schedule import ready
from pipelines.study import study_steps
from stages.manifest import ManifestError
from stages.materialize import STAGES, Drift, materialize, module_of
from stages.ref import Ref
from stages.sources.web_site import SOURCES

RECIPES = [RecipeName.TINY, RecipeName.SMOKE, RecipeName.PHOTOS]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    return tmp_path


@pytest.fixture
def own(tmp_path: Path) -> OwnData:
    (tmp_path / "list.csv").write_text("url,text\nhttp://127.0.0.1:1/a.jpg,a picture of a cat\n")
    return OwnData(urls=(str(tmp_path / "list.csv"),))


def steps(recipe: RecipeName, own: OwnData) -> list[Step]:
    return steps_of(FlowName.INTERNVL, recipe, "", own if recipe is RecipeName.PHOTOS else NO_DATA)


def inputs_of(step: Step) -> set[str]:
    return {ref.name for ref in step.spec.inputs}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_step_comes_after_what_it_is_made_from(recipe: RecipeName, own: OwnData) -> None:
    seen: set[str] = set()
    for step in steps(recipe, own):
        assert inputs_of(step) <= seen, step.artifact
        assert step.artifact not in seen
        seen.add(step.artifact)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_stage_is_on_the_road_with_parameters_that_it_accepts(recipe: RecipeName, own: OwnData) -> None:
    found = steps(recipe, own)
    assert {step.spec.stage for step in found} == set(STAGES)
    for step in found:
        module_of(step.spec.stage).Parameters.model_validate(step.spec.parameters)


def test_the_drawn_world_trains_language_beside_the_data_road(own: OwnData) -> None:
    by_name = {step.artifact: step for step in steps(RecipeName.TINY, own)}
    assert inputs_of(by_name["checkpoints/language"]) == set()
    assert inputs_of(by_name["conversations"]) == set()
    by_name = {step.artifact: step for step in steps(RecipeName.PHOTOS, own)}
    assert inputs_of(by_name["checkpoints/language"]) == {"shards/clean"}
    assert inputs_of(by_name["conversations"]) == {"shards/caption_quality"}


def test_generative_and_instruct_both_wait_for_contrastive_alone(own: OwnData) -> None:
    found = steps(RecipeName.TINY, own)
    done = {step.artifact for step in found if step.spec.stage in STAGES[:8]} | {"conversations"}
    waiting = [step for step in found if step.artifact not in done]
    free = {step.artifact for step in ready(found, waiting, done)}
    assert {"checkpoints/generative", "checkpoints/instruct"} <= free
    assert not free & {"evaluations/instruct", "exports/instruct", "evaluations/generative"}


def test_what_waits_for_nothing_starts_first(own: OwnData) -> None:
    found = steps(RecipeName.TINY, own)
    listings = {step.artifact for step in found if step.spec.stage == "list_urls"}
    first = ready(found, found, set())
    assert {step.artifact for step in first} == listings | {"checkpoints/language", "conversations"}
    # As soon as one listing is done its download is free, but the others go first.
    waiting = [step for step in found if step.artifact != "listing/cc3m"]
    assert ready(found, waiting, {"listing/cc3m"})[-1].artifact == "pool/cc3m"


def test_inputs_from_outside_the_steps_are_not_waited_for(own: OwnData) -> None:
    found = [step for step in steps(RecipeName.TINY, own) if step.spec.stage == "write_shards"]
    assert ready(found, found, set()) == found


def test_everything_after_a_filter_is_its_shards_and_the_models(own: OwnData) -> None:
    found = steps(RecipeName.TINY, own)
    chosen = [step for step in found if step.artifact == "verdicts/caption_quality/coyo"]
    after = [step.artifact for step in everything_after(found, chosen)]
    assert after[:2] == ["verdicts/caption_quality/coyo", "shards/caption_quality"]
    assert "checkpoints/generative" in after and "checkpoints/contrastive" not in after
    assert "shards/clean" not in after


def test_a_new_version_reads_what_is_not_made_again_from_the_old_one(own: OwnData) -> None:
    found = steps(RecipeName.TINY, own)
    chosen = [step for step in found if step.artifact == "verdicts/caption_quality/coyo"]
    _, shards = with_version(found, everything_after(found, chosen)[:2], "strict")
    assert str(shards.spec.artifact) == "shards/caption_quality@strict"
    versions = {ref.name: ref.version for ref in shards.spec.inputs}
    assert versions["verdicts/caption_quality/coyo"] == "strict"
    assert versions["verdicts/caption_quality/cc3m"] == "tiny"


def test_contrastive_runs_on_two_workers_and_that_is_no_identity() -> None:
    found = {step.artifact: step.spec for step in steps_of(FlowName.TRAIN, RecipeName.TINY)}
    assert found["checkpoints/contrastive"].placement == {"workers": 2}
    assert found["checkpoints/instruct"].placement == {}
    assert "placement" not in str(found["checkpoints/contrastive"].parameters)


def test_sources_that_a_form_offers_are_those_of_the_recipes() -> None:
    assert {str(name) for name in SourceName} == {each.name for recipe in RecipeName for each in make(recipe).sources}
    assert {*SOURCES, "own"} < set(SourceName)


def test_photos_needs_its_data_named_once(own: OwnData) -> None:
    with pytest.raises(ValueError, match="--urls FILE_OR_GLOB or --images"):
        steps_of(FlowName.DATA, RecipeName.PHOTOS)
    store = Store(str(Path(own.urls[0]).parent / "store"))
    listing = steps_of(FlowName.DATA, RecipeName.PHOTOS, "", own)[0]
    materialize(listing.spec, store, InlineCluster(), progress=False)
    again = steps_of(FlowName.INTERNVL, RecipeName.PHOTOS)[0]
    assert again.spec == listing.spec
    with pytest.raises(ValueError, match="brings its own data"):
        steps_of(FlowName.DATA, RecipeName.TINY, "", own)


def test_training_does_not_ask_for_the_data_again() -> None:
    assert steps_of(FlowName.TRAIN, RecipeName.PHOTOS)[0].artifact == "checkpoints/language"


def test_what_would_be_refused_later_is_refused_before_anything_starts(tmp_path: Path, own: OwnData) -> None:
    store = Store(str(tmp_path / "store"))
    with pytest.raises(ManifestError, match=r"shards/clean@photos is not in .* run"):
        preflight(steps_of(FlowName.TRAIN, RecipeName.PHOTOS), store)
    found = steps_of(FlowName.DATA, RecipeName.PHOTOS, "", own)
    preflight(found, store)
    materialize(found[0].spec, store, InlineCluster(), progress=False)
    preflight(found, store)
    Path(own.urls[0]).write_text("url,text\nhttp://127.0.0.1:1/b.jpg,a picture of a dog\n")
    changed = steps_of(FlowName.DATA, RecipeName.PHOTOS, "", own)
    with pytest.raises(Drift, match="content_digest"):
        preflight(changed, store)
    preflight(changed, store, force=True)


def test_a_source_may_be_scored_by_a_tower_of_its_own(own: OwnData) -> None:
    recipe = make(RecipeName.TINY)
    english = recipe.sources[0].model_copy(update={"clip_model": "open_clip:ViT-B-32/laion2b_s34b_b79k"})
    some = data_steps(recipe.model_copy(update={"sources": (english, *recipe.sources[1:])}), "v")
    scored = {step.artifact: step for step in some if step.spec.stage == "score"}
    first, *others = scored.values()
    assert first.spec.parameters["clip_model"] == english.clip_model
    assert not any(name.startswith("checkpoints/") for name in inputs_of(first))
    assert others and all(step.spec.parameters["clip_model"] is None for step in others)
    assert all("checkpoints/filtering_network" in inputs_of(step) for step in others)
    every = tuple(each.model_copy(update={"clip_model": english.clip_model}) for each in recipe.sources)
    alone = data_steps(recipe.model_copy(update={"sources": every}), "v")
    assert "filtering_network" not in {step.spec.stage for step in alone}


def test_everything_before_is_what_an_artifact_needs_and_no_more(own: OwnData) -> None:
    found = steps(RecipeName.TINY, own)
    assert [
        step.artifact for step in everything_before(found, [Ref.model_validate("checkpoints/language@tiny")])
    ] == ["checkpoints/language"]
    before = everything_before(found, [Ref.model_validate("shards/clean@tiny")])
    assert before[-1].artifact == "shards/clean" and before == [step for step in found if step in before]
    assert not any(step.artifact.startswith(("verdicts/caption_quality", "checkpoints/contr")) for step in before)


def test_a_study_of_the_tiny_recipe_makes_its_data_first_and_of_other_data_refuses() -> None:
    found = study_steps("shards/clean@tiny", "", "", {}, {})
    assert found[-1].artifact == "variants" and str(found[-1].spec.artifact) == "variants@tiny"
    assert {"shards/clean", "checkpoints/language"} <= {step.artifact for step in found}
    assert not any(step.artifact == "checkpoints/contrastive" for step in found)
    shorter = study_steps("shards/clean@tiny", "", "", {"training": {"schedule": {"steps": 9}}}, {})[-1]
    before, after = (each.spec.parameters["training"]["schedule"] for each in (found[-1], shorter))
    assert after == {**before, "steps": 9}, "a group of fields may be given in part"
    with pytest.raises(ManifestError, match="shards/clean@mine"):
        study_steps("shards/clean@mine", "", "", {}, {})
