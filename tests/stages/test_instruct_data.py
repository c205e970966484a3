"""What the instruct stage is taught and measures: what is on neither side is counted, and strangers are strangers."""

from pathlib import Path
from typing import Any

import pytest
from own_data import make, picture, turns
from test_instruct import batches_of, prepared, small
from test_own_conversations import source

from infra.storage import Store
from stages.batches import ShardedSamples
from stages.chat_assembly import assemble
from stages.chat_data import Conversations
from stages.held_out import strangers
from stages.instruct_data import BETWEEN, InstructBatches
from stages.manifest import ManifestError


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
