from pathlib import Path

import pytest

from pipelines.changes import parse, paths, rerun_steps
from pipelines.names import RecipeName, StageName
from stages.materialize import STAGES


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))


def names(*arguments: object, **given: object) -> list[str]:
    return [step.artifact for step in rerun_steps(*arguments, **given)]  # type: ignore[arg-type]


def test_the_form_offers_every_stage() -> None:
    assert [str(name) for name in StageName] == list(STAGES)


def test_one_stage_for_some_sources() -> None:
    assert names("score", RecipeName.TINY, ["coyo", "cc3m"], []) == ["signals/coyo", "signals/cc3m"]
    assert len(names("filter", RecipeName.TINY, [], [])) == 10


def test_a_changed_rule_is_in_the_spec_and_takes_what_is_made_from_it_along() -> None:
    change = "policy.clip_similarity.min_similarity=0.61"
    steps = rerun_steps("filter", RecipeName.TINY, ["coyo"], [change], new_version="strict")
    assert [str(step.spec.artifact) for step in steps] == [
        "verdicts/clean/coyo@strict",
        "verdicts/caption_quality/coyo@strict",
    ]
    rules = {rule["kind"]: rule for rule in steps[0].spec.parameters["policy"]["filters"]}
    assert rules["clip_similarity"]["min_similarity"] == 0.61
    assert {str(ref) for ref in steps[1].spec.inputs} == {
        "signals/coyo@tiny",
        "pool/coyo@tiny",
        "verdicts/clean/coyo@strict",
    }


def test_a_rule_of_the_strict_policy_leaves_the_light_one_alone() -> None:
    change = "policy.length_units.min_units=9"
    assert names("filter", RecipeName.TINY, ["coyo"], [change]) == ["verdicts/caption_quality/coyo"]


def test_everything_after_reaches_the_models() -> None:
    after = names("filter", RecipeName.TINY, ["coyo"], [], and_everything_after=True)
    assert after[:2] == ["verdicts/clean/coyo", "verdicts/caption_quality/coyo"]
    assert "checkpoints/instruct" in after and "checkpoints/language" not in after


def test_a_nested_field_of_a_model() -> None:
    (step,) = rerun_steps("language", RecipeName.TINY, [], ["schedule.steps=7", "hidden_size=48"])
    assert step.spec.parameters["schedule"]["steps"] == 7
    assert step.spec.parameters["hidden_size"] == 48


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", RecipeName.TINY, ["flickr"], []), r"no 'flickr' in this recipe; it has laion_en, .*wukong"),
        (("score", RecipeName.SMOKE, ["coyo"], []), r"no 'coyo' in this recipe; it has laion_en, cc3m"),
        (("scoring", RecipeName.TINY, [], []), r"no stage 'scoring'; its stages are list_urls, .*export"),
        (("filter", RecipeName.TINY, [], ["policy.nothing=1"]), r"no parameter policy.nothing; .*min_similarity"),
        (("language", RecipeName.TINY, [], ["schedule.steps"]), "write it as path=value"),
        (("language", RecipeName.TINY, [], ["schedule.steps=-3"]), r"schedule.steps: .*greater than or equal to 1"),
        (("language", RecipeName.TINY, [], ["schedule.steps=many"]), r"schedule.steps: .*valid integer"),
        (("score", RecipeName.TINY, [], [], "", "../up"), "version '../up'"),
    ],
)
def test_what_fits_nothing_is_refused_with_what_there_is(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rerun_steps(*arguments)  # type: ignore[arg-type]


def test_values_are_json_where_they_are() -> None:
    assert parse(["a=1", "b.c=0.5", "d=true", "e=null", "f=text", 'g=["x"]', "h=a=b"]) == {
        "a": 1,
        "b.c": 0.5,
        "d": True,
        "e": None,
        "f": "text",
        "g": ["x"],
        "h": "a=b",
    }


def test_paths_name_rules_by_kind() -> None:
    assert paths({"policy": {"filters": [{"kind": "aspect", "max_ratio": 5}], "name": "clean"}, "seed": 0}) == [
        "policy.name",
        "policy.aspect.max_ratio",
        "seed",
    ]
