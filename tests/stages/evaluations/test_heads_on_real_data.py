"""Probe and segmentation on real pictures, through the readers, with an encoder that knows nothing yet."""

from pathlib import Path

import numpy as np
import pytest
from worlds import FakeSubject, tiny_judge

from stages.evaluations import linear_probe, segmentation
from stages.evaluations.data import find_place, open_examples
from stages.evaluations.data.dataset import Dataset
from stages.evaluations.registry import load_own

DATA = Path(__file__).resolve().parents[4] / "shared/data"
OWN = Path(__file__).parent / "own"


def opened(name: str, limit: int, cache: Path) -> Dataset:
    described = load_own(OWN / f"{name}.yaml")
    place = find_place(described, DATA)
    if place is None:
        pytest.skip(f"../shared/data/{described.place} is not here")
    return open_examples(described, place, limit=limit, cache=cache)


def test_a_probe_on_photos_of_ten_classes(tmp_path: Path) -> None:
    examples = opened("imagenette_subset", 120, tmp_path)
    settings = linear_probe.Settings(batch_size=40, epochs=6, augment=False)
    outcome = linear_probe.run(FakeSubject(tiny_judge()), examples, settings, "imagenette_subset")
    found = {each.name: each for each in outcome.measures}
    assert found["raw_pixels_top1"].low > found["raw_pixels_top1"].chance  # colours alone tell something
    assert found["top5"].value > found["top1"].value and outcome.facts["trained_on"] == 120
    assert outcome.confusion.sum() == 120 and outcome.classes == list(examples.classes)
    assert {each.group for each in outcome.examples} == {"Nearest mistakes"} and len(outcome.examples) == 12


def test_segmentation_of_street_scenes(tmp_path: Path) -> None:
    examples = opened("camvid_subset", 6, tmp_path)
    settings = segmentation.Settings(crop_size=48, batch_size=4, iterations=30, learning_rate=0.02)
    outcome = segmentation.run(FakeSubject(tiny_judge()), examples, settings, "camvid_subset")
    found = {each.name: each for each in outcome.measures}
    assert found["miou"].low > found["miou"].chance and found["raw_pixels_miou"].low > found["miou"].chance
    labelled = sum(int((examples.mask(number) != 255).sum()) for number in range(len(examples)))
    assert outcome.confusion.sum() == labelled == np.sum(outcome.scores["pixels"])
    assert "iou_sky" in found and outcome.facts["trained_on"] == 6
