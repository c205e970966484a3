"""Batches of the generative stage: a pure function of rows and step, and draws that are what they say."""

import pickle
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from training_data import make_shards, tiny_tokenizer

from infra.storage import Store
from models.negatives import MINED, OTHER, OWN
from stages.batches import ShardedSamples
from stages.generative_batches import GenerativeBatches
from stages.manifest import ManifestError
from stages.pairs import Texts
from stages.recent import Recent

STEPS = 100
ROWS = np.array([row for row in range(48) if row % 3])
"""What is trained on: batches number these 32 from 0."""


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> GenerativeBatches:
    folder = tmp_path_factory.mktemp("batches")
    store = Store(str(folder / "store"))
    samples = ShardedSamples(store, make_shards(store, samples=48), folder / "shards")
    return GenerativeBatches(
        samples,
        Texts(tiny_tokenizer(), 80),
        image_size=24,
        rows=ROWS,
        seed=7,
        steps=STEPS,
        hard_negatives=0.6,
        paired=False,
        smallest_crop=1.0,
    )


def test_a_batch_is_that_of_its_rows_in_any_company_and_in_any_process(batches: GenerativeBatches) -> None:
    whole, half = batches(range(8), 3), pickle.loads(pickle.dumps(batches))([5, 4], 3)
    for name, value in half.items():
        wanted = whole[name][[5, 4]]
        if value.ndim == 2 and name != "uniform":
            wanted = wanted[:, : value.shape[1]]  # padded to its own longest text
        assert torch.equal(value, wanted), name
    again = batches(range(8), 4)
    assert not torch.equal(whole["uniform"], again["uniform"]) and torch.equal(whole["row"], again["row"])


def test_half_are_judged_with_their_own_caption_and_mining_rises(batches: GenerativeBatches) -> None:
    def counted(step: int) -> Counter[int]:
        drawn = [batches._draw(row, at) for row in ROWS.tolist() for at in range(step, step + 8)]
        assert all(0 <= number < 1 for _, uniform, _ in drawn for number in uniform)
        return Counter(judged for judged, _, _ in drawn)

    first, last = counted(0), counted(STEPS - 8)
    assert 96 < first[OWN] < 160 and 96 < last[OWN] < 160, "256 draws: four standard errors are 32"
    assert first[MINED] < 16 and 45 < last[MINED] < 110, "0.6 of about 128"
    assert last[OTHER] > 20


def test_in_pairs_every_picture_gets_a_wrong_caption(batches: GenerativeBatches) -> None:
    by_lot, paired = (replace(batches, paired=paired) for paired in (False, True))
    drawn = [(by_lot._draw(row, 60), paired._draw(row, 60)) for row in ROWS.tolist()]
    assert {one[0] for one, _ in drawn} == {OWN, OTHER, MINED} and {two[0] for _, two in drawn} == {OTHER, MINED}
    assert all(one[1:] == two[1:] for one, two in drawn), "who is drawn does not depend on it"


def test_another_sample_has_another_caption_and_another_picture(
    batches: GenerativeBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    drawn = [batches.another(3, rng) for _ in range(200)]
    assert len(set(drawn)) > 20 and set(drawn) <= set(ROWS.tolist()), "never one of those kept aside"
    assert all(batches.captions.one(each) != batches.captions.one(3) for each in drawn)
    monkeypatch.setattr(batches, "image_id", lambda row: 0)
    assert batches.another(3, rng) == 3, "equal pictures: nothing else is wrong"


def test_numbers_of_pictures_take_no_more_memory_the_more_are_read(
    batches: GenerativeBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [batches.image_id(row) for row in range(8)]
    monkeypatch.setattr(Recent.__init__, "__defaults__", (2,))
    few = replace(batches)
    assert [few.image_id(row) for row in range(8)] == whole and len(few._image_ids) == 2


def test_the_texts_of_a_row(batches: GenerativeBatches) -> None:
    batch = batches([2, 9], 0)
    tokenizer = batches.texts.tokenizer
    for number, row in enumerate((2, 9)):
        caption = batches.captions.one(int(ROWS[row]))
        read = {
            name: tokenizer.decode(
                batch[f"{name}_input_ids"][number][batch[f"{name}_attention_mask"][number].bool()].tolist()
            )
            for name in ("caption", "summary", "prompted")
        }
        assert read["caption"] == caption and read["summary"] == "summarize:" + caption
        learned = batch["prompted_labels"][number]
        assert tokenizer.decode(learned[learned >= 0].tolist()) == caption
        assert read["prompted"].endswith("caption:" + caption)
    assert batch["image_id"][0] != batch["image_id"][1] and batch["caption_id"][0] != batch["other_id"][0]


def test_a_blind_run_shows_the_pictures_of_others(batches: GenerativeBatches) -> None:
    blind, rows = replace(batches, blind=True), range(32)
    seen, other = batches(rows, 0), blind(rows, 0)
    strangers = (seen["image_id"] != other["image_id"]).sum()
    assert strangers == 32 and torch.equal(blind(rows, 5)["pixel_values"], other["pixel_values"])
    for name, value in seen.items():
        assert name in ("pixel_values", "image_id") or torch.equal(value, other[name]), name


def test_the_stranger_of_a_blind_run_shows_another_picture(
    batches: GenerativeBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = replace(batches, blind=True)
    monkeypatch.setattr(batches.samples, "told_by", lambda row: (row % 2,) * 2)
    shown = [blind._stranger(row) for row in ROWS.tolist()]
    assert all(row % 2 != other % 2 for row, other in zip(ROWS.tolist(), shown, strict=True))
    assert set(shown) <= set(ROWS.tolist()) and len(set(shown)) > 10
    monkeypatch.setattr(batches.samples, "told_by", lambda row: (0, 0))
    with pytest.raises(ManifestError, match="shards/clean: a blind run needs a second picture"):
        blind([0], 0)


def test_crops_belong_to_step_and_row(batches: GenerativeBatches) -> None:
    cropping = pickle.loads(pickle.dumps(batches))
    cropping.smallest_crop = 0.3
    one, same, later = (cropping([4], step)["pixel_values"] for step in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, later)
    assert torch.equal(cropping.seen([int(ROWS[4])])["pixel_values"], batches([4], 1)["pixel_values"])


def test_rows_that_show_the_same_stranger_have_a_crop_each_in_any_company(batches: GenerativeBatches) -> None:
    blind, rows = replace(batches, blind=True, smallest_crop=0.3), range(32)
    shown = [blind._stranger(row) for row in ROWS.tolist()]
    first, second = next((one, two) for one, two in combinations(rows, 2) if shown[one] == shown[two])
    together = blind([first, second], 1)["pixel_values"]
    alone = torch.cat([blind([row], 1)["pixel_values"] for row in (first, second)])
    assert torch.equal(together, alone) and not torch.equal(together[0], together[1])
