"""Windows that slide over large pictures, and predictions of the size of the picture."""

import pytest
import torch
from PIL import Image
from torch import nn

from stages.evaluations.segment_crops import short_side
from stages.evaluations.segmenter import Segmenter, predict, raw_patches, slide, windows


@pytest.mark.parametrize(
    ("length", "starts"), [(8, [0]), (9, [0, 1]), (13, [0, 5]), (14, [0, 5, 6]), (20, [0, 5, 10, 12])]
)
def test_windows_cover_everything_and_end_with_the_picture(length: int, starts: list[int]) -> None:
    assert [each.start for each in windows(length, 8, 5)] == starts
    assert all(each.stop - each.start == 8 for each in windows(length, 8, 5))


class Shade(nn.Module):
    """A head that gives each patch its mean and its negative."""

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        mean = maps[0].mean(dim=1, keepdim=True)
        return torch.cat([mean, -mean], dim=1)


def test_windows_of_what_looks_at_single_pixels_join_without_a_seam() -> None:
    segmenter = Segmenter(raw_patches(1), Shade())
    pixels = torch.randn(1, 3, 20, 13)
    found = slide(segmenter, pixels, 8, 5)
    torch.testing.assert_close(found, segmenter.logits(pixels))
    assert found.shape == (1, 2, 20, 13)


def test_where_windows_overlap_they_are_averaged() -> None:
    class Count(nn.Module):
        calls = 0

        def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
            self.calls += 1
            return torch.full((1, 1, *maps[0].shape[-2:]), float(self.calls))

    found = slide(Segmenter(raw_patches(1), Count()), torch.zeros(1, 3, 8, 13), 8, 5)[0, 0, 0]
    assert found.tolist() == [1.0] * 5 + [1.5] * 3 + [2.0] * 5


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (8, 8), (5, 40)])
def test_predictions_have_the_size_of_the_picture(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, size[0] // 2, size[1]))
    found = predict(Segmenter(raw_patches(4), Shade()), picture, 16, 8, torch.device("cpu"))
    assert found.shape == (size[1], size[0])
    assert found[:, : size[0] // 4].all() and not found[:, -(size[0] // 4) :].any()
    assert short_side(*size, 16) == (
        max(16, round(16 * size[0] / min(size))),
        max(16, round(16 * size[1] / min(size))),
    )
