"""Pictures and captions as tokens and numbers: what the towers are trained to expect."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_data import make_shards, members, tiny_tokenizer

from infra.storage import Store
from models.losses import IGNORE
from models.preprocess import pixel_values
from stages import pairs
from stages.batches import ShardedSamples, generator_of
from stages.manifest import Ledger, ManifestError
from stages.pairs import (
    Captions,
    Pictures,
    Texts,
    caption_ids,
    padded,
    random_box,
)
from stages.prompts import SUMMARIZE, caption_prompt
from stages.recent import Recent
from stages.ref import Ref
from stages.tars import tar_bytes
from stages.workspace import Output

BOS, EOS = 1, 2


def test_texts_are_begun_ended_and_padded_on_the_right() -> None:
    texts = Texts(tiny_tokenizer(), 20)
    ids, mask = texts.summaries(["two red circles", "three blue squares above a green ring in this drawing"])
    assert ids.shape[1] == 20 and ids[:, 0].tolist() == [BOS, BOS]
    for row, seen in zip(ids, mask, strict=True):
        length = int(seen.sum())
        assert row[length - 1] == EOS, "also a text that was cut ends"
        assert seen.tolist() == [1] * length + [0] * (20 - length)
        assert not row[length:].any()
    whole = Texts(tiny_tokenizer(), 80)
    (ids, mask) = whole.summaries(["图片里有两个红色的圆形"])
    assert whole.tokenizer.decode(ids[0].tolist()[1:-1]) == SUMMARIZE + "图片里有两个红色的圆形"


def test_a_prompt_is_seen_and_never_learned() -> None:
    texts = Texts(tiny_tokenizer(), 80)
    captions, languages = ["two red circles", "zwei rote Kreise"], ["en", None]
    ids, mask, labels = texts.prompted(captions, languages)
    for row, caption, language in zip(range(2), captions, languages, strict=True):
        prompt = texts.prompt(language)
        assert ids[row, : len(prompt)].tolist() == prompt
        learned = labels[row][labels[row] != IGNORE].tolist()
        assert texts.tokenizer.decode(learned[:-1]) == caption and learned[-1] == EOS
        assert int(mask[row].sum()) == len(prompt) + len(learned)
    assert caption_prompt("en") == "English caption:" and caption_prompt(None) == "Caption:"


def test_padding_and_numbers_of_captions() -> None:
    ids, mask = padded([[5], [6, 7, 8]])
    assert ids.tolist() == [[5, 0, 0], [6, 7, 8]] and mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    numbers = caption_ids(["a", "b", "a"])
    assert numbers[0] == numbers[2] != numbers[1]


def test_pictures_are_those_of_the_published_preprocessing(store: Store, tmp_path: Path) -> None:
    samples = ShardedSamples(store, make_shards(store, samples=3), tmp_path)
    kept, forgetful = Pictures(samples, 32), Pictures(samples, 32, decoded_bytes=0)
    expected = torch.stack([pixel_values(Image.open(io.BytesIO(members(row)[1]["jpg"])), 32) for row in (2, 0)])
    for pictures in (kept, forgetful, kept):
        assert torch.allclose(pictures.batch([2, 0]), expected, atol=1e-6)
    corner = [(0.0, 0.0, 0.5, 0.5)]
    assert not torch.equal(kept.batch([0], corner), kept.batch([0]))
    assert torch.equal(kept.batch([0], [(0.0, 0.0, 1.0, 1.0)]), kept.batch([0]))


def photo(side: int) -> bytes:
    """Return a picture with the spectrum of photographs: power falls with the square of the frequency."""
    rng = np.random.default_rng(side)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    noise = np.fft.fft2(rng.normal(size=(3, side, side))) / frequency
    waves = np.fft.ifft2(noise).real.transpose(1, 2, 0)
    out = io.BytesIO()
    pixels = 127 + 40 * waves / waves.std()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


@pytest.mark.parametrize("box", [None, (0.1, 0.2, 0.7, 0.8)])
def test_large_jpegs_are_decoded_small_and_look_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box: tuple[float, ...] | None
) -> None:
    key, found = members(0)
    tar = tar_bytes([(key, {**found, "jpg": photo(640)})])
    output = Output(store, Ref(name="shards/clean", version="t"), "write_shards", {})
    part = output.part("000000", "x", Ledger(listed=1, kept=1), {"tar": ("000000.tar", tar)})
    samples = ShardedSamples(store, output.commit([part]), tmp_path)

    def decoded(margin: float) -> tuple[tuple[int, int], Any]:
        sizes = []
        monkeypatch.setattr(pairs, "DECODE_MARGIN", margin)
        monkeypatch.setattr(
            pairs, "resize", lambda picture, *given: (sizes.append(picture.size), resize(picture, *given))[1]
        )
        pixels = Pictures(samples, 64).read(0, box)
        assert np.array_equal(pixels, Pictures(samples, 64).read(0, box)), "the same each time"
        return sizes[0], pixels.astype(float)

    resize = pairs.resize
    (small, ours), (_, rough), (whole, full) = decoded(pairs.DECODE_MARGIN), decoded(0.5), decoded(1000)
    assert whole == (640, 640) and small == ((160, 160) if box is None else (320, 320))

    def decibels(pixels: Any) -> float:
        return float(10 * np.log10(255**2 / np.mean((pixels - full) ** 2)))

    assert decibels(ours) > 45, "what a full decode would have given"
    assert decibels(rough) < 45, "too few pixels would be noticed"


def test_a_broken_picture_is_named(store: Store, tmp_path: Path) -> None:
    key, found = members(0)
    output = Output(store, Ref(name="shards/clean", version="t"), "write_shards", {})
    tar = tar_bytes([(key, {**found, "jpg": found["jpg"][:300]})])
    part = output.part("000000", "x", Ledger(listed=1, kept=1), {"tar": ("000000.tar", tar)})
    samples = ShardedSamples(store, output.commit([part]), tmp_path)
    with pytest.raises(ManifestError, match=f"{key} cannot be decoded .*make the shards again"):
        Pictures(samples, 32).read(0)


def test_captions_and_their_languages(store: Store, tmp_path: Path) -> None:
    shards = make_shards(store, samples=5, rows_per_shard=2)
    samples = ShardedSamples(store, shards, tmp_path)
    captions = Captions(samples)
    assert captions.read([4, 0]) == [members(row)[1]["txt"].decode() for row in (4, 0)]
    assert captions.languages([0, 1, 2]) == ["en", "de", "zh"]


def test_captions_take_no_more_memory_the_more_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recent.__init__, "__defaults__", (2,))
    store = Store(str(tmp_path / "store"))
    samples = ShardedSamples(store, make_shards(store, samples=5), tmp_path / "shards")
    captions = Captions(samples)
    assert captions.read(range(5)) == [members(row)[1]["txt"].decode() for row in range(5)]
    asked: list[int] = []
    monkeypatch.setattr(samples, "read", lambda row, suffix: asked.append(row) or b"again")
    assert captions.read([3, 4, 0]) == [*(members(row)[1]["txt"].decode() for row in (3, 4)), "again"]
    assert asked == [0]


def test_random_boxes_lie_inside_and_keep_their_share() -> None:
    boxes = np.array([random_box(generator_of("box", number), 0.5) for number in range(500)])
    assert boxes.min() >= 0 and boxes.max() <= 1 + 1e-9
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.prod(axis=1)
    assert areas.min() > 0.4 and areas.max() <= 1 + 1e-9
    assert len(np.unique(boxes.round(6), axis=0)) == 500
