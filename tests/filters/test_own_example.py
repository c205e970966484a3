"""The example of docs/how-to/change-something.md is a folder of filters that judges as the page says."""

from pathlib import Path

import pyarrow as pa
import pytest

from filters.bits import reasons_of
from filters.policies import Policy, clean
from filters.verdicts import give

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "change-something.md"


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    code = next(block for block in PAGE.read_text().split("```python\n")[1:] if "from filters.base" in block)
    (tmp_path / "own_rules.py").write_text(code.partition("```")[0])
    return clean(filters_folder=str(tmp_path))


def test_the_pages_rules_drop_lists_and_small_pictures(policy: Policy) -> None:
    columns = {
        "caption": pa.array(["A cat, asleep, on a sofa.", "cat, dog, cow, hen, pig", "A cat.", None]),
        "pixels": pa.array([50_000.0, 50_000.0, 49_999.0, float("nan")]).to_numpy(),
    }
    masks = give(policy.filters[-2:], columns, 4).reasons
    assert [reasons_of(int(mask)) for mask in masks] == [[], ["many_commas"], ["few_pixels"], []]


def test_their_thresholds_change_as_those_of_ours(policy: Policy) -> None:
    told = policy.model_dump(mode="json")
    rule = next(each for each in told["filters"] if each["kind"] == "many_commas")
    rule["max_commas"] = 4
    changed = Policy.model_validate(told)
    columns = {"caption": pa.array(["cat, dog, cow, hen, pig", "a, b, c, d, e, f"])}
    (many,) = (each for each in changed.filters if each.reason == "many_commas")
    assert [reasons_of(int(mask)) for mask in give((many,), columns, 2).reasons] == [[], ["many_commas"]]
