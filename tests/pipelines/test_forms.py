"""The forms of the Prefect UI: every parameter described, sensible order, bounds where a value has some."""

from typing import Any

import pytest

from pipelines.deploy import deployments
from pipelines.names import Answer

SCHEMAS: dict[str, dict[str, Any]] = {
    each.name: each._parameter_openapi_schema.model_dump() for each in deployments()
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_parameter_says_what_it_is(name: str) -> None:
    silent = [key for key, field in SCHEMAS[name]["properties"].items() if not field.get("description")]
    groups = SCHEMAS[name]["definitions"].values()
    silent += [
        f"{group['title']}.{key}"
        for group in groups
        for key, field in group.get("properties", {}).items()
        if not field.get("description")
    ]
    assert silent == []


@pytest.mark.parametrize("name", ["data", "train", "internvl", "pilot", "plan"])
def test_the_long_group_of_own_data_comes_last(name: str) -> None:
    fields = SCHEMAS[name]["properties"]
    assert max(fields, key=lambda key: fields[key]["position"]) == "own"


def test_nothing_but_the_stage_of_a_rerun_must_be_filled_in() -> None:
    asked = {name: schema["required"] for name, schema in SCHEMAS.items() if schema["required"]}
    assert asked == {"rerun": ["stage"]}


@pytest.mark.parametrize(
    ("form", "parameter", "bounds"),
    [
        ("train", "evaluate_every", {"minimum": 0}),
        ("pilot", "urls", {"minimum": 1}),
        ("whatif", "within", {"minimum": 0, "exclusiveMaximum": 1}),
        ("internvl", "version", {"pattern": r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$"}),
    ],
)
def test_a_form_knows_the_bounds_of_its_values(form: str, parameter: str, bounds: dict[str, Any]) -> None:
    field = SCHEMAS[form]["properties"][parameter]
    assert {key: field.get(key) for key in bounds} == bounds


def test_an_untouched_answer_at_the_gate_is_none() -> None:
    from pipelines.gate import Approval

    schema = Approval.model_json_schema()
    assert schema["required"] == ["answer"] and "default" not in schema["properties"]["answer"]
    assert [each.value for each in Answer] == ["approve", "reject"]
