"""The recipe of docs/how-to/change-something.md has the rules, the shape and the placement that the page says."""

from pathlib import Path

import pytest

from pipelines.graph import Step, data_steps, train_steps
from pipelines.recipes import NO_DATA
from stages.workspace import Placement

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "change-something.md"


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Step]:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    blocks = [block.partition("```")[0] for block in PAGE.read_text().split("```python\n")[1:]]
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "own_rules.py").write_text(next(each for each in blocks if "from filters.base" in each))
    code = next(each for each in blocks if "def mine" in each)
    # The page's name is one that its reader adds, and its folder the reader's own.
    code = code.replace("RecipeName.MINE", "RecipeName.ONE_GPU").replace("/data/my_filters", str(tmp_path / "rules"))
    names: dict[str, object] = {}
    exec(code, names)
    made = names["mine"]
    assert callable(made)
    recipe = made(NO_DATA)
    return {step.artifact: step for step in (*data_steps(recipe, "mine"), *train_steps(recipe, "mine"))}


def test_its_rules_are_in_the_clean_policy_alone(steps: dict[str, Step]) -> None:
    rules = {
        name: {rule["kind"] for rule in steps[f"verdicts/{name}/own"].spec.parameters["policy"]["filters"]}
        for name in ("clean", "caption_quality")
    }
    assert {"many_commas", "few_pixels"} <= rules["clean"]
    assert not {"many_commas", "few_pixels"} & rules["caption_quality"]


def test_stage_1_is_smaller_and_wide_and_the_others_are_as_before(steps: dict[str, Step]) -> None:
    spec = steps["checkpoints/contrastive"].spec
    assert (spec.parameters["hidden_size"], spec.parameters["num_hidden_layers"]) == (768, 12)
    placed = Placement(**spec.placement)
    assert (placed.workers, placed.gpus_per_worker, placed.sharding) == (8, 1, "fsdp2")
    assert placed.micro_batch_size == 256
    assert steps["checkpoints/generative"].spec.placement["workers"] == 1
