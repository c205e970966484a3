"""Every description of a real dataset opens, and its first and last example can be read."""

from pathlib import Path

import pytest

from stages.evaluations.data import find_place, open_examples
from stages.evaluations.registry import load_own

DATA = Path(__file__).resolve().parents[5] / "shared/data"
OWN = sorted((Path(__file__).parents[1] / "own").glob("*.yaml"))


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.stem)
def test_it_opens(file: Path, tmp_path: Path) -> None:
    described = load_own(file)
    place = find_place(described, DATA)
    if place is None:
        pytest.skip(f"../shared/data/{described.place} is not here")
    found = open_examples(described, place, cache=tmp_path)
    assert found.unreadable == {} and len(found.digest) == 64 and described.real_data
    # Only where questions are asked without a picture is anything told.
    assert found.notes == ([] if found.rows[0].bodies else ["there are no pictures: questions are asked without one"])
    about = {row.protocol for row in described.rows}
    for number in (0, len(found) - 1):
        assert len(found.pictures(number)) == (1 if found.rows[number].bodies else 0)
        if about & {"zero_shot_classification", "linear_probe", "video_classification"}:
            assert 0 <= found.label(number) < len(found.classes)
        if about & {"retrieval", "captioning"}:
            assert all(found.captions(number))
        if "dialogue" in about:
            assert found.question(number).text and found.question(number).answers
        if "segmentation" in about:
            assert found.mask(number).shape[::-1] == found.pictures(number)[0].size
    if about & {"linear_probe", "segmentation"}:
        training = found.training()
        assert training.classes == found.classes and len(training) > len(found)
        # CIFAR-10's splits have files of the same names.
        assert not {row.bodies[0].position for row in training.rows} & {row.bodies[0].position for row in found.rows}
