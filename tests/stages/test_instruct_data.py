"""What the instruct stage is taught and measures: what is on neither side is counted, and strangers are strangers."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from own_data import make, picture, turns
from test_instruct import batches_of, prepared, run, same, small, workspace
from test_own_conversations import source

from infra.storage import Store
from stages import conversations, instruct
from stages.batches import ShardedSamples
from stages.chat_assembly import assemble
from stages.chat_batches import collate
from stages.chat_data import Conversations
from stages.chat_template import IGNORE
from stages.held_out import strangers
from stages.instruct_data import BETWEEN, InstructBatches
from stages.manifest import Manifest, ManifestError
from stages.ref import Ref
from stages.training.accumulating import Cutting
from stages.training.audit import audit_run
from stages.training.order import Order, Source
from stages.training.schedule import Schedule
from stages.training.workers import Maker
from stages.workspace import Output, Placement


def batches(store: Store, tmp_path: Path, rows: list[Any], **given: Any) -> InstructBatches:
    """Return rows of one's own as the stage opens them for a tiny model."""
    here = prepared(store, tmp_path)
    chat, tokenizer = assemble(small(image_size=48, max_dynamic_patch=1, context_length=512), here)
    samples = ShardedSamples(store, make(store, tmp_path, source(tmp_path, rows)), tmp_path / "shards")
    return batches_of(chat, [Conversations(samples, tokenizer, chat.config)], **given)


def pictures(tmp_path: Path, count: int) -> list[str]:
    return [picture(tmp_path, f"{number}.png", 48, 48, number) for number in range(count)]


def test_rows_of_several_pictures_that_are_on_neither_side_are_counted(store: Store, tmp_path: Path) -> None:
    names = pictures(tmp_path, 40)
    rows = [{"image": names[n : n + 2], "conversations": turns("<image><image> Q", "A")} for n in range(39)]
    made = batches(store, tmp_path, rows)
    assert made.left_out == {}
    (taught,) = made.divide(0.3, 100, ())
    assert made.left_out == {BETWEEN: 39 - taught.samples - len(made.aside)} and made.left_out[BETWEEN] > 5
    made.divide(0.3, 100, ())
    assert made.left_out == {BETWEEN: 39 - taught.samples - len(made.aside)}, "counted once"


def test_the_picture_of_another_is_another_picture_that_is_trained_on(store: Store, tmp_path: Path) -> None:
    names = pictures(tmp_path, 8)
    rows = [{"image": name, "conversations": turns("<image> Q", f"A{n}")} for name in names for n in range(5)]
    made = batches(store, tmp_path, rows, blind=True)
    made.divide(0.4, 100, ())
    taught = made.rows.tolist()
    seen = [made.stranger(row) for row in taught]
    assert set(seen) <= set(taught), "none is shown a picture that is kept aside"
    assert all(made.told_by(row) != made.told_by(other) for row, other in zip(taught, seen, strict=True))
    assert len({made.told_by(row) for row in seen}) > 2 and seen == [made.stranger(row) for row in taught]
    shown = strangers(made.aside, made.told_by)
    assert list(shown) == made.aside and len(made.aside) >= 10 and set(shown.values()) <= set(made.aside)
    assert all(made.told_by(row) != made.told_by(other) for row, other in shown.items())


def test_where_all_show_one_picture_nobody_is_a_stranger(store: Store, tmp_path: Path) -> None:
    (name,) = pictures(tmp_path, 1)
    made = batches(
        store, tmp_path, [{"image": name, "conversations": turns("<image> Q", f"A{n}")} for n in range(3)], blind=True
    )
    assert strangers([0, 1, 2], made.told_by) == {}
    with pytest.raises(ManifestError, match="a blind run needs a second picture"):
        made([0], 0)


def test_strangers_share_no_picture_and_the_others_have_none() -> None:
    told = [(1, 2), (1, 1), (2, 5), (5, 9), (7, 9)]
    assert strangers(range(5), told.__getitem__) == {0: 3, 1: 2, 2: 4, 3: 0, 4: 0}
    assert strangers([0, 1], told.__getitem__) == {}


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
