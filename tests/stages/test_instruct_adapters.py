"""Adapters through the instruct stage: an untouched base, two ways to publish, and a run that goes on to the bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_instruct import prepared, run, small
from training_data import make_contrastive

from infra.storage import Store, sha256_file
from models.chat import InternVLChat
from models.config import ChatConfig
from models.lora import merged
from stages import distill, instruct
from stages.adapters import fetch_chat
from stages.chat import ChatSession
from stages.chat_assembly import assemble
from stages.checkpoints import fetch
from stages.manifest import Manifest, ManifestError
from stages.weight_files import open_weights
from stages.workspace import Workspace

RANKS = {"vision": 2, "language": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def here(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a chat model to go on from, as checkpoints/align."""
    found = prepared(store, tmp_path_factory.mktemp("data"))
    first = run(store, found, small(train_vision=False, train_language=False), version="align")
    found.inputs["checkpoints/align"] = first
    return found


def tuned(**lora: Any) -> instruct.Parameters:
    return small(start="checkpoints/align", lora={**RANKS, **lora})


@pytest.fixture(scope="module")
def separate(store: Store, here: Workspace) -> Manifest:
    return run(store, here, tuned(merge=False), version="separate")


def test_the_base_stays_and_adapters_lie_beside_its_name(
    store: Store, here: Workspace, separate: Manifest, tmp_path: Path
) -> None:
    base = here.inputs["checkpoints/align"]
    folder = fetch(store, separate, tmp_path / "separate")
    told = json.loads((folder / "adapter_config.json").read_text())
    assert told == {"base": "checkpoints/instruct@align", "digest": base.digest, **RANKS}
    weights = open_weights(folder)
    assert {name.partition(".")[0] for name in weights} == {"vision_model", "language_model", "mlp1"}
    towers = [name for name in weights if not name.startswith("mlp1.")]
    assert towers and all(".lora_A.weight" in name or ".lora_B.weight" in name for name in towers)
    assert all(weights[name].abs().sum() > 0 for name in towers if "lora_B" in name), "they learned"
    # The last block is shown, so all blocks are adapted; the base's file is what it was.
    first = fetch(store, base, tmp_path / "base")
    assert sha256_file(first / "model.safetensors") == base.parts[0].files["model"].sha256


def test_merged_and_separate_say_the_same(store: Store, here: Workspace, separate: Manifest, tmp_path: Path) -> None:
    whole = run(store, here, tuned(), version="merged")
    one = open_weights(fetch(store, whole, tmp_path / "merged"))
    other = open_weights(fetch_chat(store, separate, tmp_path / "separate"))
    before = open_weights(fetch(store, here.inputs["checkpoints/align"], tmp_path / "base"))
    assert one.keys() == other.keys() == before.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    changed = {name for name in one if not torch.equal(one[name], before[name])}
    assert all(name.startswith("mlp1.") or name.endswith(".weight") for name in changed)
    assert not any("norm" in name or "embed" in name or "lm_head" in name for name in changed if "mlp1" not in name)
    beside, plain = (
        ChatSession.from_folder(fetch_chat(store, each, tmp_path / f"talk to {each.ref.version}"))
        for each in (separate, whole)
    )
    assert beside.ask("What is there?", max_new_tokens=4) == plain.ask("What is there?", max_new_tokens=4)


def test_an_encoder_is_taken_of_adapters_alone(
    store: Store, here: Workspace, separate: Manifest, tmp_path: Path
) -> None:
    learned = open_weights(fetch_chat(store, separate, tmp_path / "whole"))
    # Under a name of its own, for the stage takes the encoder of another checkpoint than it makes.
    inputs = {**here.inputs, "checkpoints/tuned": separate}
    taking = Workspace(store, here.cluster, tmp_path / "taking", inputs)
    found, _ = assemble(small(encoder="checkpoints/tuned"), taking)
    teacher = distill._teacher(distill.Parameters(teacher="checkpoints/tuned"), taking)
    for vision in (found.vision_model, teacher):
        for name, value in vision.state_dict().items():
            assert torch.equal(value, learned[f"vision_model.{name}"]), name


def test_the_frozen_base_is_the_same_to_the_bit_while_adapters_learn(store: Store, here: Workspace) -> None:
    torch.manual_seed(0)
    chat, _ = assemble(tuned(), here)
    before = {name: value.clone() for name, value in chat.state_dict().items()}
    instruct.freeze(chat, tuned(dropout=0.0))
    optimizer = torch.optim.AdamW([value for value in chat.parameters() if value.requires_grad], lr=0.1)
    ids = torch.tensor([[5, 6, 7, 8]])
    chat({"input_ids": ids, "labels": ids})["loss"].backward()
    optimizer.step()
    after = {name.replace(".base_layer", ""): value for name, value in chat.state_dict().items()}
    same = [name for name, value in before.items() if torch.equal(after[name], value)]
    assert set(before) - set(same) <= {name for name in before if name.startswith("mlp1.")}
    assert any(not torch.equal(merged(chat)[name], value) for name, value in before.items() if "q_proj" in name)
    assert isinstance(chat, InternVLChat) and isinstance(chat.config, ChatConfig)


def test_a_base_that_cannot_be_named_is_refused(
    store: Store, here: Workspace, separate: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match=r"set instruct\.start"):
        run(store, here, small(lora={**RANKS, "merge": False}), version="none")
    larger = tuned(merge=False).model_copy(update={"image_size": 64})
    with pytest.raises(ManifestError, match=r"vision.image_size: 48 -> 64; set lora.merge to true"):
        run(store, here, larger, version="larger")
    here.inputs["checkpoints/contrastive"] = make_contrastive(store, version="other", seed=1)
    store.remove("checkpoints/instruct/align/manifest.json")
    other = run(store, here, small(train_language=False), version="align")
    assert other.digest != here.inputs["checkpoints/align"].digest
    with pytest.raises(ManifestError, match=r"checkpoints/instruct@align as it was .* another one stands there now"):
        fetch_chat(store, separate, tmp_path / "gone")
