"""The instruct stage: what is joined, what learns, and what is measured."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from training_data import make_contrastive, make_language, tiny_tokenizer

from infra.cluster import InlineCluster
from infra.storage import Store
from models.chat import InternVLChat
from models.config import ChatConfig, VisionConfig
from models.cost import ConversationCost
from stages import conversations, instruct
from stages.batches import ShardedSamples
from stages.chat_assembly import assemble, check_view, fit_embeddings, grow_tokenizer
from stages.chat_batches import collate
from stages.chat_data import Conversations
from stages.chat_template import CHAT_TOKENS, IGNORE, SPECIAL_TOKENS
from stages.checkpoints import fetch
from stages.instruct_data import InstructBatches
from stages.manifest import Manifest, ManifestError
from stages.ref import Ref
from stages.training import meters
from stages.training.accumulating import Cutting
from stages.training.audit import audit_run
from stages.training.order import Order, Source
from stages.training.schedule import Schedule
from stages.training.workers import Maker
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
    (line,) = [json.loads(each) for each in store.read(meters.meters_key(made.ref)).splitlines()]
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


def test_towers_come_from_their_checkpoints(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    found = assemble(small(), here)[0].state_dict()
    seen = open_weights(fetch(store, here.input("checkpoints/contrastive"), tmp_path / "c"))
    spoken = open_weights(fetch(store, here.input("checkpoints/language"), tmp_path / "l"))
    assert seen and all(same(value, found[name]) for name, value in seen.items())
    assert spoken and all(
        same(value, found[f"language_model.{name}"][: len(value)]) for name, value in spoken.items()
    )


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one, other)


def test_the_untrained_twin_differs_in_its_encoder_alone(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    torch.manual_seed(1)
    trained = assemble(small(), here)[0].state_dict()
    torch.manual_seed(1)
    other = assemble(small(untrained_vision=True), here)[0].state_dict()
    differ = {name for name, value in trained.items() if not same(value, other[name])}
    assert differ and all(name.startswith("vision_model.") for name in differ)


def test_the_blind_twin_learns_from_the_same_texts_with_the_pictures_of_others(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    chat, tokenizer = assemble(small(), here)
    samples = ShardedSamples(store, here.input("conversations"), tmp_path / "shards")
    data = Conversations(samples, tokenizer, chat.config)
    sighted, blind = (batches_of(chat, [data], blind=blind) for blind in (False, True))
    rows = range(24)
    own, other = sighted(rows, 0), blind(rows, 0)
    assert all(same(own[name], other[name]) for name in ("input_ids", "labels", "sample_index", "noise"))
    shown = [blind.stranger(row) for row in rows]
    assert all(row != stranger for row, stranger in zip(rows, shown, strict=True)) and len(set(shown)) > 12
    for place, stranger in enumerate(shown):
        assert same(other["pixel_values"][place], sighted([stranger], 0)["pixel_values"][0])
    assert same(blind(rows, 7)["pixel_values"], other["pixel_values"])


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


def test_what_the_encoder_cannot_show_is_refused_before_it_is_built() -> None:
    vision = VisionConfig(
        image_size=48,
        patch_size=24,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=8,
    )
    for fine in ({"select_layer": -3}, {"select_layer": 2}, {"image_size": 72}, {}):
        check_view(small(**fine), vision)
    for layer in (-4, 3):
        with pytest.raises(
            ManifestError, match=rf"select_layer is {layer} .* 3 hidden states; choose one from -3 to 2"
        ):
            check_view(small(select_layer=layer), vision)
    with pytest.raises(
        ManifestError, match=r"image_size 50 does not divide into .* patches of 24; choose a multiple"
    ):
        check_view(small(image_size=50), vision)


@pytest.mark.parametrize("wrong", [{"select_layer": 9}, {"image_size": 47}])
def test_the_stage_refuses_it_too(store: Store, tmp_path: Path, wrong: dict[str, int]) -> None:
    here = workspace(store, tmp_path, language=make_language(store), contrastive=make_contrastive(store))
    with pytest.raises(ManifestError, match=next(iter(wrong))):
        assemble(small(**wrong), here)


def test_conversations_longer_than_the_language_model_reads_are_refused(store: Store, tmp_path: Path) -> None:
    here = workspace(store, tmp_path, language=make_language(store), contrastive=make_contrastive(store))
    assemble(small(context_length=512), here)
    with pytest.raises(ManifestError, match=r"context_length is 513 .* max_position_embeddings 512 tokens; lower"):
        assemble(small(context_length=513), here)


def test_new_rows_are_the_mean_of_the_old_ones_and_old_rows_stay() -> None:
    torch.manual_seed(0)
    weights = {"model.embed_tokens.weight": torch.randn(5, 4), "lm_head.weight": torch.randn(5, 4)}
    grown = fit_embeddings(weights, 5, 8)
    for name, value in weights.items():
        assert grown[name].shape == (8, 4) and torch.equal(grown[name][:5], value)
    assert torch.allclose(grown["lm_head.weight"][5:], weights["lm_head.weight"].mean(0).expand(3, 4))
    assert not torch.allclose(grown["model.embed_tokens.weight"][5], grown["model.embed_tokens.weight"][6])
    assert fit_embeddings(weights, 5, 5) == weights


def test_rows_that_fill_a_table_up_become_tokens_or_go() -> None:
    torch.manual_seed(0)
    weights = {"model.embed_tokens.weight": torch.randn(9, 4), "lm_head.weight": torch.randn(9, 4)}
    given, head = weights["model.embed_tokens.weight"], weights["lm_head.weight"]
    fitted = fit_embeddings(weights, 5, 7)
    assert torch.equal(fitted["model.embed_tokens.weight"], given[:7])
    assert torch.equal(fitted["lm_head.weight"][:5], head[:5])
    assert torch.allclose(fitted["lm_head.weight"][5:], head[:5].mean(0).expand(2, 4))
    assert fit_embeddings(weights, 5, 5)["model.embed_tokens.weight"].shape == (5, 4)


def test_growing_a_tokenizer_twice_adds_nothing_and_marks_come_out_whole() -> None:
    tokenizer = tiny_tokenizer()
    before = tokenizer.get_vocab_size()
    grow_tokenizer(tokenizer, "Hermes-2")
    size = tokenizer.get_vocab_size()
    assert size == before + 11 + 3
    grow_tokenizer(tokenizer, "Hermes-2")
    assert tokenizer.get_vocab_size() == size
    ids = tokenizer.encode("<|im_start|>user\n<img><IMG_CONTEXT></img>", add_special_tokens=False).ids
    assert len(ids) == 6
    assert tokenizer.decode(tokenizer.encode("Wie groß?", add_special_tokens=False).ids) == "Wie groß?"


def test_a_larger_picture_size_interpolates_positions(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    chat, _ = assemble(small(image_size=64), here)
    assert chat.config.vision.image_size == 64 and chat.config.num_image_token == 16
    assert chat.image_features(torch.randn(1, 3, 64, 64)).shape == (1, 16, 32)


def test_a_batch_learns_answers_only_and_shows_each_its_picture(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    chat, tokenizer = assemble(small(), here)
    data = Conversations(
        ShardedSamples(store, here.input("conversations"), tmp_path / "shards"), tokenizer, chat.config
    )
    batch = collate([data.example(number) for number in (3, 0)], chat.config.eos_token_id)
    row = json.loads(ShardedSamples(store, here.input("conversations"), tmp_path / "shards").read(3, "json"))
    answers = [turn["value"] for turn in row["conversations"] if turn["from"] == "gpt"]
    learned = [int(token) for token in batch["labels"][0] if token != IGNORE]
    assert tokenizer.decode(learned, skip_special_tokens=False) == "".join(f"{text}<|im_end|>" for text in answers)
    assert (batch["input_ids"] == chat.config.image_context_token_id).sum().item() == 2 * chat.config.num_image_token
    assert batch["pixel_values"].shape == (2, 3, 48, 48)
    assert torch.equal(data.example(3, data.pictures(0)).pixel_values, data.example(0).pixel_values)  # type: ignore[arg-type]
    assert data.example(3, data.pictures(0)).input_ids == data.example(3).input_ids
    padded = batch["attention_mask"] == 0
    assert padded.any() and (batch["labels"][padded] == IGNORE).all()


def test_conversations_too_long_are_left_out_with_their_reason_and_too_few_are_refused(
    store: Store, tmp_path: Path
) -> None:
    here = prepared(store, tmp_path)
    chat, tokenizer = assemble(small(context_length=16), here)
    samples = ShardedSamples(store, here.input("conversations"), tmp_path / "shards")
    data = Conversations(samples, tokenizer, chat.config)
    assert len(data) == 0 and sum(data.left_out.values()) == 60
    assert all("raise context_length" in reason for reason in data.left_out)
    with pytest.raises(ManifestError, match=r"raise context_length.*nothing is left to train on"):
        run(store, here, small(context_length=16))


def test_dynamic_tiles_take_more_places(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    chat, tokenizer = assemble(small(max_dynamic_patch=4), here)
    samples = ShardedSamples(store, here.input("conversations"), tmp_path / "shards")
    data = Conversations(samples, tokenizer, chat.config.model_copy(update={"min_dynamic_patch": 4}))
    example = data.example(0)
    assert example.pixel_values is not None and example.pixel_values.shape == (5, 3, 48, 48)
    assert example.input_ids.count(chat.config.image_context_token_id) == 5 * 9


def test_packed_rows_say_what_padded_ones_say_and_hold_several_conversations(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    chat, tokenizer = assemble(small(context_length=512), here)
    samples = ShardedSamples(store, here.input("conversations"), tmp_path / "shards")
    made = batches_of(chat, [Conversations(samples, tokenizer, chat.config)])
    rows, found = [5, 1, 30, 44, 2, 17, 8], []
    for batch in (made(rows, 0), collate([made.example(row) for row in rows], chat.config.eos_token_id)):
        chat.zero_grad()
        losses = chat(batch)
        losses["loss"].backward()
        gradients = torch.cat([value.grad.flatten() for value in chat.parameters() if value.grad is not None])
        found.append((batch["input_ids"], losses, gradients))
    (packed_ids, packed, one), (padded_ids, padded, other) = found
    assert len(padded_ids) == len(rows) and packed_ids.shape == (1, sum(made.load(row).tokens for row in rows))
    assert packed["loss"].item() == pytest.approx(padded["loss"].item(), rel=1e-5)
    assert torch.allclose(packed["sample_loss"], padded["sample_loss"], rtol=1e-4)
    assert torch.allclose(one, other, rtol=1e-3, atol=1e-6)
    halves = [chat(made(part, 0), chat.counts(made(rows, 0)))["loss"].item() for part in (rows[:3], rows[3:])]
    assert sum(halves) == pytest.approx(packed["loss"].item(), rel=1e-5)


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


def test_a_batch_maker_travels_to_data_workers_without_the_model(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    parameters = small()
    chat, tokenizer = assemble(parameters, here)
    samples = ShardedSamples(store, here.input("conversations"), tmp_path / "shards")
    made = batches_of(chat, [Conversations(samples, tokenizer, chat.config)])
    sent = pickle.dumps(instruct.InstructTask(parameters, chat, tokenizer, made).batches)
    again = pickle.loads(sent)([4, 9], 0)
    assert len(sent) < 400_000, "tokens and places of samples, no weights and no pictures"
    assert all(torch.equal(value, again[name]) for name, value in made([4, 9], 0).items())
    assert made.facts(4) == pickle.loads(sent).facts(4) and made.load(4) == pickle.loads(sent).load(4)
    maker = Maker(
        made, Order(0, [Source("a", (60,))]), steps=1, global_batch_size=4, cutting=Cutting.of(Placement(), 1, made)
    )
    assert len(pickle.dumps(maker)) < len(sent) + 2000, "what weighs them is sent once"
    told = json.loads(samples.read(4, "json"))
    assert made.facts(4) == (told["id"], "scenes", told["language"])


def test_several_artifacts_are_mixed_and_each_keeps_its_own_share_aside(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    inputs = {f"conversations/{name}": each_of(store, tmp_path, name, scenes) for name, scenes in SCENES.items()}
    here.inputs.pop("conversations")
    here.inputs.update(inputs)
    weights = [{"name": "conversations/many", "weight": 1}, {"name": "conversations/few", "weight": 3}]
    schedule = Schedule(global_batch_size=8, steps=6, learning_rate=3e-3)
    made = run(store, here, small(held_out=4, mixture=weights, schedule=schedule))
    audited = audit_run(store, made)
    assert audited.sound and made.totals["held_out"] == 3 + 4, "of twenty, three lie in the share; four at most"
    assert {each.name: each.samples for each in audited.sources} == {
        "conversations/few": SCENES["few"] - 3,
        "conversations/many": SCENES["many"] - 7,
    }
    few, many = (each.read for each in audited.sources)
    assert few + many == 48 and few > 1.8 * many, "three to one, though the other has twice as many"
    with pytest.raises(ManifestError, match=r"names conversations/many and the inputs are conversations/few, "):
        run(store, here, small(held_out=4, mixture=weights[:1]), version="other")


SCENES = {"few": 20, "many": 40}


def test_an_artifact_may_be_too_small_to_keep_anything_aside_but_not_all_of_them(
    store: Store, tmp_path: Path
) -> None:
    here = prepared(store, tmp_path)
    chat, tokenizer = assemble(small(), here)
    pair = [each_of(store, tmp_path, name, scenes) for name, scenes in SCENES.items()]
    data = [
        Conversations(ShardedSamples(store, each, tmp_path / str(number)), tokenizer, chat.config)
        for number, each in enumerate(pair)
    ]
    made = batches_of(chat, data)
    few, many = made.divide(0.15, 4, ())
    assert (few.samples, many.samples) == (19, 37) and many.first == 19 and len(made.aside) == 1 + 3
    told = [made.facts(row).uid for row in range(few.samples + many.samples)]
    kept = [each.facts(row).uid for each in data for row in each.divided(0.15, 0).taught.tolist()]
    assert told == kept, "batches number what is trained on, one artifact after the other"
    assert set(made.aside).isdisjoint(made.rows.tolist())
    made = batches_of(chat, data[:1])
    with pytest.raises(ManifestError, match=r"conversations/few holds 20 .* keeps none of their pictures aside"):
        made.divide(0.05, 4, ())


def each_of(store: Store, tmp_path: Path, name: str, scenes: int) -> Manifest:
    parameters = conversations.Parameters.model_validate({"scenes": scenes})
    output = Output(store, Ref(name=f"conversations/{name}", version="t"), "conversations", parameters.model_dump())
    return conversations.run(parameters, output, workspace(store, tmp_path))
