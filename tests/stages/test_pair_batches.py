"""Batches of pairs: pure functions of rows and step, masked before they travel."""

import pickle

import numpy as np
import pytest
import torch
from training_data import make_shards, members, tiny_tokenizer

from infra.storage import Store
from models.vision_embeddings import kept_patches
from stages.batches import ShardedSamples
from stages.pair_batches import Augmentation, PairBatches, Switch, View
from stages.pairs import Texts, caption_ids, number_of

MASKED, WHOLE = View(32, 8, mask_ratio=0.5), View(48, 8)
SWITCHED = Switch(MASKED, WHOLE, step=6)
CHANGED = Augmentation(smallest_crop=0.6, flip=True)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> ShardedSamples:
    folder = tmp_path_factory.mktemp("pairs")
    store = Store(str(folder / "store"))
    return ShardedSamples(store, make_shards(store, samples=32), folder / "shards")


def maker(samples: ShardedSamples, **given: object) -> PairBatches:
    return PairBatches(samples, Texts(tiny_tokenizer(), 80), SWITCHED, 3, **given)  # type: ignore[arg-type]


def test_a_batch_is_a_function_of_rows_and_step(samples: ShardedSamples) -> None:
    one = maker(samples, augmentation=CHANGED)
    other: PairBatches = pickle.loads(pickle.dumps(one))
    other([3, 7], 1)
    rows = [5, 3, 30, 11]
    whole, again = one(rows, 4), other(rows, 4)
    assert set(whole) == set(again) and all(torch.equal(whole[name], again[name]) for name in whole)
    half = other(rows[2:], 4)
    for name in set(whole) - {"input_ids", "attention_mask"}:
        assert torch.equal(whole[name][2:], half[name]), f"{name}: a share does not depend on the others"
    later = one(rows, 5)
    for name in ("keep_patches", "pixel_values", "noise"):
        assert not torch.equal(later[name], whole[name]), name
    assert torch.equal(later["image_id"], whole["image_id"])


def test_masked_pixels_do_not_travel_and_masking_ends(samples: ShardedSamples) -> None:
    batches = maker(samples)
    masked, whole = batches([0, 1, 2], 5), batches([0, 1, 2], 6)
    keep = masked["keep_patches"]
    assert keep.shape == (3, 4, 4) and keep.flatten(1).sum(1).tolist() == [8, 8, 8]
    assert masked["pixel_values"].shape == (3, 8, 3 * 8 * 8)
    small = PairBatches(samples, batches.texts, Switch(View(32, 8), WHOLE, 6), 3)([0, 1, 2], 5)["pixel_values"]
    assert torch.equal(masked["pixel_values"], kept_patches(small, keep, 8))
    assert whole["pixel_values"].shape == (3, 3, 48, 48) and "keep_patches" not in whole


def test_every_patch_is_masked_as_often(samples: ShardedSamples) -> None:
    batches = maker(samples)
    seen = torch.stack([batches(range(32), step)["keep_patches"].float().mean(0) for step in range(6)]).mean(0)
    # 192 draws of a half: five standard errors are 0.18.
    assert float((seen - 0.5).abs().max()) < 0.18


def test_pictures_and_captions_are_told_apart_and_every_second_is_mirrored(samples: ShardedSamples) -> None:
    plain, flipped = maker(samples), maker(samples, augmentation=Augmentation(flip=True))
    rows = list(range(32))
    batch, mirrored = plain(rows, 6), flipped(rows, 6)["pixel_values"]
    assert batch["image_id"].tolist() == [number_of(members(row)[1]["jpg"]) for row in rows]
    assert torch.equal(batch["caption_id"], caption_ids([members(row)[1]["txt"].decode() for row in rows]))
    turned = [torch.equal(m, p.flip(-1)) for m, p in zip(mirrored, batch["pixel_values"], strict=True)]
    same = [torch.equal(m, p) for m, p in zip(mirrored, batch["pixel_values"], strict=True)]
    assert all(t != s for t, s in zip(turned, same, strict=True)) and 6 <= sum(turned) <= 26


def test_chosen_rows_are_numbered_from_nothing(samples: ShardedSamples) -> None:
    some, every = maker(samples, rows=np.array([9, 4, 7])), maker(samples)
    for name, value in some([2, 0], 2).items():
        assert torch.equal(value, every([7, 9], 2)[name]), name
