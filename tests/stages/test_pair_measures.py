"""Retrieval among pairs kept aside: what counts as right."""

import torch

from stages.pair_measures import retrieval


def test_retrieval_counts_equal_captions_as_right() -> None:
    unit = torch.eye(4)
    perfect = retrieval(unit, unit, torch.arange(4))
    assert perfect["recall_at_1_image_to_text"] == perfect["recall_at_1_text_to_image"] == 1
    assert perfect["recall_at_1_chance"] == 0.25
    crossed = unit[[1, 0, 2, 3]]
    assert retrieval(unit, crossed, torch.arange(4))["recall_at_1_image_to_text"] == 0.5
    assert retrieval(unit, crossed, torch.tensor([9, 9, 2, 3]))["recall_at_1_text_to_image"] == 1


def test_every_caption_of_a_picture_is_right() -> None:
    unit = torch.eye(4)
    crossed, pictures = unit[[1, 0, 2, 3]], torch.tensor([7, 7, 8, 9])
    found = retrieval(unit, crossed, torch.arange(4), pictures)
    assert found["recall_at_1_image_to_text"] == found["recall_at_1_text_to_image"] == 1
    assert found["recall_at_1_chance"] == 6 / 16
    assert retrieval(unit, unit[[2, 1, 0, 3]], torch.arange(4), pictures)["recall_at_1_image_to_text"] == 0.5
