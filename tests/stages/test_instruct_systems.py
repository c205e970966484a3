"""Published chat systems at small size: aligned, then tuned; by checksum, just that changes which the table names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_instruct import prepared, run
from training_data import make_generative

from infra.storage import Store
from models.config import ChatConfig
from models.renaming import State
from pipelines.recipes.systems import ALIGNED, lessons_of
from stages.adapters import fetch_chat
from stages.chat import ChatSession
from stages.checkpoints import fetch
from stages.instruct_parameters import Parameters
from stages.manifest import Manifest, ManifestError
from stages.weight_files import open_weights
from stages.workspace import Workspace

PART_OF = {"mlp1": "connector", "mlp2": "connector", "mm_projector": "connector", "vision_model": "vision"}
PART_OF |= {"language_model": "language", "qllama": "queries", "query_tokens": "queries"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("systems")
    store = Store(str(root / "store"))
    found = prepared(store, root)
    found.inputs["checkpoints/generative"] = make_generative(store, found.inputs["checkpoints/language"], root / "l")
    return found


def small(given: Parameters, **changes: Any) -> Parameters:
    """Return a system's lesson as three quick steps on small pictures."""
    schedule = given.schedule.model_copy(
        update={"global_batch_size": 8, "steps": 3, "warmup_steps": 0, "learning_rate": 3e-3, "precision": "fp32"}
    )
    sizes: dict[str, Any] = {"image_size": 48, "most_layers": 3, "context_length": 512, "max_dynamic_patch": 1}
    sizes |= {"held_out_share": 0.35, "held_out": 12}
    select = {"select_layer": max(given.select_layer, -2)}
    return given.model_copy(update={**sizes, **select, "schedule": schedule, **changes})


def weights(here: Workspace, made: Manifest, folder: Path) -> State:
    return open_weights(fetch(here.store, made, folder))


def changed(one: State, other: State) -> set[str]:
    assert one.keys() == other.keys()
    return {PART_OF[name.partition(".")[0]] for name in one if not torch.equal(one[name], other[name])}


SYSTEMS = ("InternVL-Chat-V1-0-7B", "InternVL-Chat-QLLaMA-7B", "InternVL-Chat-V1-1", "InternVL-Chat-V1-5-Plus")


@pytest.mark.parametrize("name", SYSTEMS)
def test_aligned_and_tuned_only_that_changes_which_learns(here: Workspace, tmp_path: Path, name: str) -> None:
    first, second = (small(each) for each in lessons_of(name))
    aligned = run(here.store, here, first, version=f"{name}-align")
    here.inputs[ALIGNED] = aligned
    tuned = run(here.store, here, second, version=name)
    before, after = weights(here, aligned, tmp_path / "aligned"), weights(here, tuned, tmp_path / "tuned")
    learns = {"connector", "vision" if second.train_vision else "connector", "language"}
    assert changed(before, after) == learns
    towers = open_weights(fetch(here.store, here.inputs[first.encoder], tmp_path / "encoder"))
    shared = {each: value for each, value in before.items() if each in towers}
    assert changed(shared, {each: towers[each] for each in shared}) == ({"vision"} if first.train_vision else set())
    assert first.encoder != "checkpoints/generative" or any(each.startswith("qllama.") for each in shared)
    config = ChatConfig.model_validate_json((tmp_path / "tuned" / "config.json").read_text())
    assert config.connector == second.connector and config.template == second.template
    ChatSession.from_folder(fetch_chat(here.store, tuned, tmp_path / "talk")).ask("What is there?", max_new_tokens=3)


def test_a_tuned_model_shows_what_its_start_showed(here: Workspace, tmp_path: Path) -> None:
    first, second = (small(each) for each in lessons_of("InternVL-Chat-V1-0-7B"))
    here.inputs[ALIGNED] = run(here.store, here, first, version="start")
    with pytest.raises(ManifestError, match=r"connector is unshuffle_mlp and checkpoints/align was trained with mlp"):
        run(here.store, here, second.model_copy(update={"connector": "unshuffle_mlp"}), version="other")
    here.inputs[ALIGNED] = here.inputs["checkpoints/contrastive"]
    with pytest.raises(ManifestError, match=r"instruct\.start checkpoints/align is no chat model"):
        run(here.store, here, second, version="none")
    queries = small(lessons_of("InternVL-Chat-QLLaMA-7B")[0], encoder="checkpoints/contrastive")
    with pytest.raises(ManifestError, match=r"has none; set instruct\.encoder to checkpoints/generative"):
        run(here.store, here, queries, version="queries")


def test_blocks_behind_the_kept_ones_are_dropped(here: Workspace, tmp_path: Path) -> None:
    first, _ = lessons_of("InternVL-Chat-V1-2")
    made = run(here.store, here, small(first, most_layers=1, train_vision=False), version="fewer")
    found = weights(here, made, tmp_path / "fewer")
    seen = open_weights(fetch(here.store, here.inputs["checkpoints/contrastive"], tmp_path / "c"))
    layers = {each for each in found if ".layers.0." in each and each.startswith("vision_model.")}
    assert layers and not any(each.startswith("vision_model.encoder.layers.1.") for each in found)
    assert all(torch.equal(found[each], seen[each]) for each in layers)
