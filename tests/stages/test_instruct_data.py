"""What the instruct stage is taught and measures: what is on neither side is counted, and strangers are strangers."""

from pathlib import Path
from typing import Any

from own_data import make, picture, turns
from test_instruct import batches_of, prepared, small
from test_own_conversations import source

from infra.storage import Store
from stages import instruct
from stages.batches import ShardedSamples
from stages.chat_data import Conversations
from stages.instruct_data import BETWEEN, InstructBatches


def batches(store: Store, tmp_path: Path, rows: list[Any], **given: Any) -> InstructBatches:
    """Return rows of one's own as the stage opens them for a tiny model."""
    here = prepared(store, tmp_path)
    chat, tokenizer = instruct.assemble(small(image_size=48, max_dynamic_patch=1, context_length=512), here)
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
