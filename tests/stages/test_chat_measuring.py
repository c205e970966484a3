"""What is measured of conversations is what all logits would say, and it fits where the training fitted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_chat_packed import examples, model_of
from test_instruct import prepared, run, small

from infra.storage import Store
from models.chat import IGNORE, InternVLChat
from models.objective import Named
from stages.chat_batches import Example, collate
from stages.chat_measuring import packs, readings
from stages.training.balancing import Room
from stages.workspace import Placement


def two_answers() -> list[Example]:
    """Return conversations of one answer each, and one of two."""
    first, *others = examples()
    labels = [*first.labels]
    labels[5:7] = first.input_ids[5:7]
    return [*others, Example(first.input_ids, labels, first.pixel_values)]


@pytest.mark.parametrize("room", [Room(), Room(tokens=12), Room(tiles=1)])
def test_readings_are_what_all_logits_say(room: Room) -> None:
    model, given = model_of(), two_answers()
    batch = collate(given, 2)
    logits = model.logits(batch["input_ids"], batch["attention_mask"], batch["pixel_values"])[:, :-1]
    wanted = batch["labels"][:, 1:]
    found = list(readings(model, given, room))
    for reading, row, target in zip(found, logits, wanted, strict=True):
        learned = target != IGNORE
        losses = torch.nn.functional.cross_entropy(row[learned], target[learned], reduction="none")
        assert torch.allclose(reading.losses, losses, rtol=1e-4)
        assert torch.equal(reading.right, row[learned].argmax(dim=-1) == target[learned])
        assert not reading.losses.requires_grad
    assert [len(each.answers_right) for each in found] == [1, 1, 1, 2]
    reading = found[-1]._replace(right=torch.tensor([True, True, False, True]))
    assert reading.answers_right == [True, False], "an answer is right as a whole"


def test_no_more_is_computed_at_once_than_there_is_room_for() -> None:
    assert [len(each) for each in packs(examples(), Room(tokens=17))] == [2, 2]
    assert [len(each) for each in packs(examples(), Room(tiles=1))] == [2, 1, 1]
    assert [len(each) for each in packs(examples(), Room(tokens=1))] == [1, 1, 1, 1], "one always fits"
    long = [Example([3] * 3000, [3] * 3000, None)] * 3
    assert [len(each) for each in packs(long, Room())] == [1, 1, 1], "without a limit there is one nevertheless"

    def watched() -> Iterator[Example]:
        for each in examples():
            made.append(each)
            yield each

    made: list[Example] = []
    next(packs(watched(), Room(tiles=1)))
    assert len(made) == 3, "pictures are cut when their turn comes"


def test_the_head_works_on_learned_places_alone_and_in_the_precision_of_training() -> None:
    model, seen = model_of(), list[torch.Tensor]()
    model.language_model.lm_head.register_forward_hook(lambda _, __, given: seen.append(given))
    for bf16, kind in ((False, torch.float32), (True, torch.bfloat16)):
        seen.clear()
        list(readings(model, examples(), bf16=bf16))
        assert [(each.shape[0], each.dtype) for each in seen] == [(2 + 1 + 5 + 3, kind)]


def test_the_stage_measures_in_the_room_of_its_placement(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles: list[int] = []
    predict = InternVLChat.predict

    def watched(chat: InternVLChat, batch: Named) -> Any:
        if not torch.is_grad_enabled():
            tiles.append(len(batch["pixel_values"]))
        return predict(chat, batch)

    monkeypatch.setattr(InternVLChat, "predict", watched)
    here = prepared(store, tmp_path)
    here.placement = Placement(max_packed_tiles=3)
    run(store, here, small())
    assert tiles == [3] * 8, "twelve conversations of a tile, twice"
