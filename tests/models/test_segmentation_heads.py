"""Heads of segmentation: shapes, scales, taps and counts of parameters."""

import pytest
import torch

from models.segmentation_heads import (
    FeaturePyramid,
    LinearSegmenter,
    PlaceNorm,
    UperNet,
    patch_map,
    taps,
    upernet_parameters,
)


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(48, [12, 24, 36, 48]), (24, [6, 12, 18, 24]), (45, [11, 22, 34, 45]), (4, [1, 2, 3, 4]), (1, [1, 1, 1, 1])],
)
def test_taps_are_the_ends_of_the_quarters(depth: int, blocks: list[int]) -> None:
    assert taps(depth) == blocks


def test_patches_lie_on_the_map_as_they_lie_in_the_picture() -> None:
    hidden = torch.arange(1 + 6).float().view(1, 7, 1)
    assert patch_map(hidden, 2, 3).tolist() == [[[[1, 2, 3], [4, 5, 6]]]]


def test_the_linear_head_classifies_each_place_alone() -> None:
    torch.manual_seed(0)
    head = LinearSegmenter(5, 3).eval()
    maps = torch.randn(2, 5, 4, 6)
    logits = head([maps])
    assert logits.shape == (2, 3, 4, 6)
    changed = maps.clone()
    changed[0, :, 1, 2] += 1
    moved = (head([changed]) - logits).abs().sum(dim=1)
    assert moved[0, 1, 2] > 0 and moved.sum() == moved[0, 1, 2]


@pytest.mark.parametrize("side", [1, 3, 6])
def test_the_pyramid_has_four_scales(side: int) -> None:
    pyramid = FeaturePyramid(4)
    found = pyramid([torch.randn(2, 4, side, side + 1) for _ in range(4)])
    half = (side + 1) // 2, (side + 2) // 2
    assert [tuple(each.shape[-2:]) for each in found] == [
        (4 * side, 4 * side + 4),
        (2 * side, 2 * side + 2),
        (side, side + 1),
        half,
    ]


def test_upernet_gives_logits_four_times_as_fine_and_every_weight_learns() -> None:
    torch.manual_seed(0)
    head = UperNet(6, 5, 8)
    maps = [torch.randn(2, 6, 3, 4) for _ in range(4)]
    logits = head(maps)
    assert logits.shape == (2, 5, 12, 16)
    second = head.both(maps)[1]
    ((logits * torch.randn(logits.shape)).sum() + (second * torch.randn(second.shape)).sum()).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in head.parameters() if weight.ndim > 1)


def test_upernet_sees_all_of_the_coarsest_map_everywhere() -> None:
    torch.manual_seed(0)
    head = UperNet(6, 5, 8).eval()
    maps = [torch.randn(1, 6, 12, 12) for _ in range(4)]
    far = [*maps[:3], maps[3].clone()]
    far[3][..., -1, -1] += 100
    assert (head(maps) - head(far)).abs()[0, :, 0, 0].max() > 1e-6


def test_parameters_are_as_documented() -> None:
    def documented(width: int, classes: int, channels: int) -> tuple[int, int]:
        pyramid, classify = 12 * width**2 + 5 * width, (channels + 1) * classes
        head = 16 * width * channels + 99 * channels**2 + 24 * channels + classify
        return pyramid + head, 9 * width * channels + 2 * channels + classify

    assert documented(3200, 150, 1536) == (435_376_918, 44_470_422)
    assert upernet_parameters(3200, 150, 1536) == sum(documented(3200, 150, 1536))
    real = UperNet(6, 5, 8)
    assert sum(weight.numel() for weight in real.parameters()) == sum(documented(6, 5, 8))
    assert sum(weight.numel() for weight in real.beside.parameters()) == documented(6, 5, 8)[1]


def test_in_training_a_second_head_speaks_too_and_changes_nothing_of_the_first() -> None:
    torch.manual_seed(0)
    head = UperNet(6, 5, 8).eval()
    maps = [torch.randn(2, 6, 3, 4) for _ in range(4)]
    first, second = head.both(maps)
    assert torch.equal(first, head(maps)) and second.shape == (2, 5, 3, 4)


def test_the_pyramids_norm_is_over_the_channels_of_each_place() -> None:
    maps = torch.randn(2, 64, 3, 4) * 5 + 2
    found = PlaceNorm(64)(maps)
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(dim=1, correction=0), torch.ones(2, 3, 4), atol=1e-4, rtol=0)
