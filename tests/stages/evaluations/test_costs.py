"""What heads cost, told before they are trained: against counts by hand."""

from typing import Any

import pytest
from measured_worlds import chosen, colours, make_towers, paint

from infra.storage import Store
from models.config import VisionConfig
from models.cost import vision_macs
from stages.evaluations import linear_probe
from stages.evaluations.costs import (
    Sizes,
    cost_of,
    flops_per_second,
    probe_cost,
    segmentation_cost,
    vision_config,
)
from stages.evaluations.segment_settings import Settings as SegmentSettings

SMALL: dict[str, Any] = {
    "image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
    "intermediate_size": 32,
}  # fmt: skip
CONFIG = VisionConfig(**SMALL)
SIZES = Sizes(examples=5, training=20, classes=3)


def test_a_probe_sees_everything_once_or_anew_in_every_epoch() -> None:
    look = 2 * vision_macs(CONFIG)
    kept = linear_probe.Settings(augment=False, baselines=False)
    assert probe_cost(CONFIG, kept, SIZES) == (25, 25 * look)
    both = linear_probe.Settings(augment=False)
    assert probe_cost(CONFIG, both, SIZES) == (50, 50 * look), "the random encoder costs as much again"
    anew = linear_probe.Settings(epochs=10, baselines=False, neighbours=0)
    assert probe_cost(CONFIG, anew, SIZES) == (205, 205 * look)


@pytest.mark.parametrize("mode", ["linear", "head", "full", "few_shot"])
def test_a_segmenter_costs_what_it_is_trained_by(mode: Any) -> None:
    given = {"mode": mode, "crop_size": 32, "channels": 8, "batch_size": 4, "baselines": False}
    short, long = (
        segmentation_cost(CONFIG, SegmentSettings(**given, iterations=steps), SIZES)  # type: ignore[arg-type]
        for steps in (10, 20)
    )
    assert (short.pictures, long.pictures) == (50, 90)
    crop = (long.flops - short.flops) / 40
    look = 2 * vision_macs(CONFIG, 32)
    if mode == "linear":  # nothing but the head learns, over block 45 of 48, here the last
        assert look < crop < 1.1 * look
    else:
        assert crop > (3 if mode in ("full", "few_shot") else 1) * 0.9 * look


def test_baselines_cost_another_encoder_and_larger_crops_cost_more() -> None:
    def price(**given: Any) -> float:
        return segmentation_cost(CONFIG, SegmentSettings(iterations=10, batch_size=4, **given), SIZES).flops

    alone = price(crop_size=32, baselines=False)
    assert price(crop_size=32) == 2 * alone and price(crop_size=64, baselines=False) > 4 * alone


def test_only_rows_that_train_a_head_have_a_price(store: Store, tmp_path: Any) -> None:
    checkpoint = make_towers(store)
    config = vision_config(store, checkpoint)
    assert config is not None and config.patch_size == 8 and flops_per_second(config) > 0
    (row,) = chosen(paint(tmp_path / "data", 1), colours()).values()
    assert cost_of(config, row, SIZES) is None
    probe = row.model_copy(update={"protocol": "linear_probe", "settings": linear_probe.Settings().model_dump()})
    assert cost_of(config, probe, SIZES) == probe_cost(config, linear_probe.Settings(), SIZES)
    torn = SegmentSettings(crop_size=20).model_dump()
    # The protocol refuses crops that are no whole patches, and says so.
    assert cost_of(config, row.model_copy(update={"protocol": "segmentation", "settings": torn}), SIZES) is None
