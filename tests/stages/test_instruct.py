"""The instruct stage: what comes out, what learns, and that packs and placements change nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from training_data import make_contrastive, make_language

from infra.cluster import InlineCluster
from infra.storage import Store
from models.chat import InternVLChat
from models.config import ChatConfig
from models.cost import ConversationCost
from stages import conversations, instruct
from stages.batches import ShardedSamples
from stages.chat_assembly import assemble
from stages.chat_data import Conversations
from stages.chat_template import CHAT_TOKENS, SPECIAL_TOKENS
from stages.checkpoints import fetch
from stages.forecasts import meters_key
from stages.instruct_data import InstructBatches
from stages.manifest import Manifest, ManifestError
from stages.ref import Ref
from stages.training import meters
from stages.training.schedule import Schedule
from stages.weight_files import open_weights
from stages.workspace import Output, Placement, Workspace


def workspace(store: Store, tmp_path: Path, **inputs: Manifest) -> Workspace:
    names = {"conversations": "conversations"}
    named = {names.get(name, f"checkpoints/{name}"): manifest for name, manifest in inputs.items()}
    return Workspace(store=store, cluster=InlineCluster(), scratch=tmp_path / "scratch", inputs=named)


def make_conversations(store: Store, tmp_path: Path, **given: Any) -> Manifest:
    parameters = conversations.Parameters.model_validate({"scenes": 60, **given})
    output = Output(store, Ref(name="conversations", version="t"), "conversations", parameters.model_dump())
    return conversations.run(parameters, output, workspace(store, tmp_path))


def prepared(store: Store, tmp_path: Path, **given: Any) -> Workspace:
    return workspace(
        store,
        tmp_path,
        conversations=make_conversations(store, tmp_path, **given),
        language=make_language(store),
        contrastive=make_contrastive(store),
    )


def batches_of(chat: InternVLChat, data: list[Conversations], **given: Any) -> InstructBatches:
    return InstructBatches(data, chat.config.eos_token_id, cost=ConversationCost.of(chat.config), **given)


def small(**changes: Any) -> instruct.Parameters:
    schedule = Schedule(global_batch_size=8, steps=3, learning_rate=3e-3)
    return instruct.Parameters.model_validate(
        {"held_out_share": 0.35, "held_out": 12, "schedule": schedule, **changes}
    )


def run(store: Store, here: Workspace, parameters: instruct.Parameters, version: str = "t") -> Manifest:
    output = Output(store, Ref(name="checkpoints/instruct", version=version), "instruct", parameters.model_dump())
    return instruct.run(parameters, output, here)


def test_a_chat_model_comes_out_whole_and_the_same_twice(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    made = run(store, here, small())
    folder = fetch(store, made, tmp_path / "first")
    weights = open_weights(folder)
    assert {name.partition(".")[0] for name in weights} == {"vision_model", "mlp1", "language_model"}
    config = ChatConfig.model_validate_json((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    added = [tokenizer.token_to_id(token) for token in (*CHAT_TOKENS, *SPECIAL_TOKENS)]
    assert added == list(range(min(added), min(added) + 11)) and len(SPECIAL_TOKENS) == 9
    assert config.image_context_token_id == tokenizer.token_to_id("<IMG_CONTEXT>")
    assert weights["language_model.lm_head.weight"].shape[0] == config.text.vocab_size == tokenizer.get_vocab_size()
    assert made.ledger.kept == 47
    for name in ("held_out_loss", "token_accuracy", "answers_right", "blind_answers_right", "blind_held_out_loss"):
        assert 0 <= made.totals[name] < 20, name
    assert made.totals["held_out"] == 12 and made.totals["left_out"] == {}
    again = run(store, here, small(), version="again")
    assert again.parts[0].files["model"].sha256 == made.parts[0].files["model"].sha256


def test_the_meters_tell_the_use_of_the_device(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "METER_STEPS", 3)
    made = run(store, prepared(store, tmp_path), small())
    (line,) = [json.loads(each) for each in store.read(meters_key(made.ref)).splitlines()]
    assert line["step"] == 3 and line["mfu"] > 0
    assert line["useful_share"] == 1, "rows that are packed have no padding, and all layers are shown"


@pytest.mark.parametrize("part", ["vision", "connector", "language"])
def test_a_frozen_part_stays_as_it_was(store: Store, tmp_path: Path, part: str) -> None:
    here = prepared(store, tmp_path)
    parameters = small(**{f"train_{part}": False})
    torch.manual_seed(parameters.schedule.seed)
    before, _ = assemble(parameters, here)
    after = open_weights(fetch(store, run(store, here, parameters), tmp_path / "made"))
    changed = {name.partition(".")[0] for name, value in before.state_dict().items() if not same(value, after[name])}
    names = {"vision": "vision_model", "connector": "mlp1", "language": "language_model"}
    assert changed == set(names.values()) - {names[part]}


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one, other)


def test_layers_above_the_shown_one_and_nothing_at_all_do_not_train(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    chat, _ = assemble(small(select_layer=-2), here)
    instruct.freeze(chat, small(select_layer=-2))
    learns = {name for name, value in chat.vision_model.named_parameters() if value.requires_grad}
    assert any(name.startswith("encoder.layers.0.") for name in learns)
    assert not any(name.startswith("encoder.layers.1.") for name in learns)
    with pytest.raises(ManifestError, match="trains nothing"):
        instruct.freeze(chat, small(train_vision=False, train_connector=False, train_language=False))


def test_nothing_kept_aside_is_refused_at_once_since_it_is_measured_always() -> None:
    for wrong in (0, 1):
        with pytest.raises(ValueError, match="held_out_share"):
            small(held_out_share=wrong)


def losses_of(store: Store, tmp_path: Path, here: Workspace, name: str, **placement: Any) -> list[dict[str, float]]:
    """Return loss and rows of each step of a run in this placement."""
    where = replace(here, placement=Placement(**placement))
    folder = fetch(store, run(store, where, small(), version=name), tmp_path / name)
    steps = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{key: step[key] for key in ("loss", "grad_norm", "rows_digest")} for step in steps]


def test_packs_and_their_limits_change_neither_samples_nor_losses(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    wanted = losses_of(store, tmp_path, here, "whole")
    for number, placement in enumerate(({"max_packed_tokens": 200}, {"max_packed_tiles": 3, "micro_batch_size": 4})):
        found = losses_of(store, tmp_path, here, f"packed-{number}", **placement)
        for mine, theirs in zip(found, wanted, strict=True):
            assert mine["rows_digest"] == theirs["rows_digest"]
            assert mine == pytest.approx(theirs, rel=1e-4)
    with pytest.raises(
        ManifestError, match=r"conversations: conversation \S+ has \d+ tokens and 1 tiles, more than "
    ):
        losses_of(store, tmp_path, here, "small", max_packed_tokens=20)


@pytest.mark.parametrize("reduction", ["sample", "square"])
def test_learned_tokens_weigh_as_the_recipe_says(store: Store, tmp_path: Path, reduction: Any) -> None:
    here = prepared(store, tmp_path)
    chat, tokenizer = assemble(small(), here)
    samples = ShardedSamples(store, here.input("conversations"), tmp_path / "shards")
    made = batches_of(chat, [Conversations(samples, tokenizer, chat.config)], reduction=reduction)
    batch = made([3, 7, 12], 0)
    for place, row in enumerate([3, 7, 12]):
        learned = made.data[0].size(row).learned
        own = batch["loss_weights"][0][(batch["sample_index"][0, 1:] == place) & (batch["loss_weights"][0] > 0)]
        assert len(own) == learned and (own - learned ** (-1.0 if reduction == "sample" else -0.5)).abs().max() < 1e-6
    steered = run(store, here, small(loss_reduction=reduction)).parts[0].files["model"].sha256
    assert steered != run(store, here, small(), version="token").parts[0].files["model"].sha256
