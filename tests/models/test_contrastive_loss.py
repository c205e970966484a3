"""Contrastive losses: the square itself = walked in blocks = walked by two processes, losses and gradients."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from models.contrastive_loss import info_nce
from models.pair_blocks import Contrast, Pairing
from models.sigmoid_loss import sigmoid_loss

ROWS, WIDTH = 8, 5
LEAVES = ("image", "text", "scale", "bias")
IMAGE_IDS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 1])  # 1 stands on both halves
CAPTION_IDS = torch.tensor([7, 7, 8, 5, 4, 3, 8, 2])  # and so does 8
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.1},
    "masked": {"image_ids": IMAGE_IDS, "caption_ids": CAPTION_IDS},
    "soft": {"image_ids": IMAGE_IDS, "soft_targets": True},
    "all": {"image_ids": IMAGE_IDS, "caption_ids": CAPTION_IDS, "soft_targets": True, "label_smoothing": 0.1},
    "sigmoid": {},
    "sigmoid, masked": {"image_ids": IMAGE_IDS, "caption_ids": CAPTION_IDS},
    "sigmoid, soft": {"image_ids": IMAGE_IDS, "caption_ids": CAPTION_IDS, "soft_targets": True},
}
DTYPES = {torch.float64: 1e-10, torch.float32: 1e-6}


def leaves(dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
    found = {"image": image, "text": text, "scale": torch.tensor(1.5), "bias": torch.tensor(-2.0)}
    return {name: value.to(dtype).requires_grad_() for name, value in found.items()}


def naive(case: str, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return the loss by the book: the whole square, every pair's target written out."""
    given = CASES[case]
    right = hidden = torch.eye(ROWS, dtype=torch.bool)
    if "image_ids" in given:
        hidden = hidden | (given["image_ids"][:, None] == given["image_ids"])
    if given.get("soft_targets"):
        right = hidden
    if "caption_ids" in given:
        hidden = hidden | (given["caption_ids"][:, None] == given["caption_ids"])
    hidden = hidden & ~right
    logits = scale * image @ text.T
    if case.startswith("sigmoid"):
        judged = F.logsigmoid(torch.where(right, logits + bias, -logits - bias))
        return -judged[~hidden].sum() / ROWS
    losses = []
    for each in (logits, logits.T):
        chances = each.masked_fill(hidden, -torch.inf).log_softmax(dim=1).masked_fill(hidden, 0)
        smoothing = given.get("label_smoothing", 0.0)
        right, kept = right.to(each.dtype), (~hidden).to(each.dtype)
        targets = (1 - smoothing) * right / right.sum(dim=1, keepdim=True)
        targets = targets + smoothing * kept / kept.sum(dim=1, keepdim=True)
        losses.append(-(targets * chances).sum() / ROWS)
    return (losses[0] + losses[1]) / 2


def walked(case: str, piece: slice, columns: int | None, *features: Tensor) -> Contrast:
    given = {name: value[piece] if isinstance(value, Tensor) else value for name, value in CASES[case].items()}
    image, text, scale, bias = features
    if case.startswith("sigmoid"):
        return sigmoid_loss(image[piece], text[piece], scale, bias, columns=columns, **given)
    return info_nce(image[piece], text[piece], scale, columns=columns, **given)


def differentiated(work: Callable[..., Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the loss and all gradients by what comes before the unit vectors."""
    given = leaves(dtype)
    found = work(F.normalize(given["image"]), F.normalize(given["text"]), given["scale"].exp(), given["bias"])
    loss = found.loss if isinstance(found, Contrast) else found
    loss.backward()
    gradients = {name: value.grad for name, value in given.items() if value.grad is not None}
    return {"loss": loss.detach(), **gradients}


def differing(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not torch.allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_give_what_the_square_gives(case: str, dtype: torch.dtype) -> None:
    expected = differentiated(partial(naive, case), dtype)
    for columns in (1, 3, 4, ROWS, 100, None):
        found = differentiated(partial(walked, case, slice(None), columns), dtype)
        assert not differing(found, expected, DTYPES[dtype]), columns


@pytest.mark.parametrize("case", ["smoothed", "sigmoid"])
def test_a_block_that_is_left_out_is_noticed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = differentiated(partial(naive, case), torch.float64)
    whole = Pairing.blocks
    monkeypatch.setattr(Pairing, "blocks", lambda pairing: list(whole(pairing))[:-1])
    found = differentiated(partial(walked, case, slice(None), 3), torch.float64)
    assert {"loss", "image", "text", "scale"} <= set(differing(found, expected, 1e-3))


def test_large_scales_neither_overflow_nor_lose_digits() -> None:
    image = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(2)))
    text, scale = -image, torch.tensor(100.0)
    logits = scale * image @ text.T
    expected = F.cross_entropy(logits, torch.arange(6))
    assert info_nce(image, text, scale, columns=2).loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert info_nce(image, image, scale, columns=2).loss.item() == pytest.approx(
        F.cross_entropy(-logits, torch.arange(6)).item(), abs=1e-5
    )


def test_half_precision_is_computed_in_single() -> None:
    given = {name: value.detach().bfloat16() for name, value in leaves(torch.float32).items()}
    features = F.normalize(given["image"]), F.normalize(given["text"])
    image, text = (each.clone().requires_grad_() for each in features)
    loss = info_nce(image, text, torch.tensor(30.0), columns=3).loss
    loss.backward()
    assert image.grad is not None and image.grad.dtype == torch.bfloat16
    assert loss.item() == info_nce(image.float(), text.float(), torch.tensor(30.0), columns=3).loss.item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = info_nce(image.float(), text.float(), torch.tensor(30.0), columns=3).loss
    assert loss.item() == again.item()


def test_label_smoothing_spreads_a_share_over_all_columns() -> None:
    same, scale = torch.eye(4), torch.tensor(30.0)
    assert info_nce(same, same, scale).loss.item() < 1e-6
    # 0.1 of the target lies on four columns, three of which are 30 below the best.
    assert info_nce(same, same, scale, label_smoothing=0.1).loss.item() == pytest.approx(0.1 * 3 / 4 * 30, rel=1e-5)


def test_meters_and_samples_say_what_they_promise() -> None:
    image = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    text = F.normalize(torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    twice = {"image_ids": torch.tensor([1, 1, 2])}
    found = info_nce(image, text, torch.tensor(10.0), columns=2)
    assert found.meters["positive_cosine"].item() == pytest.approx((1 + 0.6 + 1) / 3)
    assert found.meters["hardest_gap"].item() == pytest.approx(((1 - 0.6) + (0.6 - 1) + (1 - 0.8)) / 3, abs=1e-6)
    assert found.meters["masked_share"].item() == 0
    assert found.sample_loss.mean().item() == pytest.approx(found.loss.item())
    assert found.sample_loss.argmax() == 1 and not found.sample_loss.requires_grad
    masked = info_nce(image, text, torch.tensor(10.0), columns=2, **twice)
    assert masked.meters["masked_share"].item() == pytest.approx(2 / 6)
    assert masked.meters["hardest_gap"].item() == pytest.approx(((1 - 0) + (0.6 - 0) + (1 - 0.8)) / 3, abs=1e-6)
    judged = sigmoid_loss(image, text, torch.tensor(10.0), torch.tensor(-3.0), columns=2, **twice)
    for name, value in masked.meters.items():
        assert judged.meters[name].item() == pytest.approx(value.item(), abs=1e-6), name
    alone = info_nce(image[:1], text[:1], torch.tensor(10.0))
    assert alone.loss.item() == 0 and alone.meters["hardest_gap"].item() == 2


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="give the batch's `image_id`"):
        info_nce(torch.eye(3), torch.eye(3), torch.tensor(1.0), soft_targets=True)
    with pytest.raises(ValueError, match="choose at least 1"):
        sigmoid_loss(torch.eye(3), torch.eye(3), torch.tensor(1.0), torch.tensor(0.0), columns=0)


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    piece = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    found: dict[Any, Any] = {}
    for case in CASES:
        for dtype in DTYPES:
            found[case, dtype] = differentiated(partial(walked, case, piece, 3), dtype)
    masked = walked("masked", piece, 3, *leaves(torch.float32).values())
    found["masked_share"] = masked.meters["masked_share"]
    try:
        walked("plain", slice(rank, 3), 3, *leaves(torch.float32).values())
    except ValueError as error:
        found["refused"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_worker, args=(str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_processes_have_the_loss_and_the_gradients_of_one(
    ranks: list[dict[Any, Any]], case: str, dtype: torch.dtype
) -> None:
    one, other = (found[case, dtype] for found in ranks)
    # A training loop takes the mean of losses and gradients over processes.
    mean = {name: (one[name] + other[name]) / 2 for name in one}
    assert not differing(mean, differentiated(partial(naive, case), dtype), DTYPES[dtype])
    assert differing({"loss": one["loss"]}, {"loss": other["loss"]}, 1e-3), "the halves differ"


def test_processes_see_the_same_false_negatives(ranks: list[dict[Any, Any]]) -> None:
    alone = walked("masked", slice(None), None, *leaves(torch.float32).values()).meters["masked_share"].item()
    assert sum(found["masked_share"].item() for found in ranks) / 2 == pytest.approx(alone)
    assert alone == pytest.approx((3 * 2 + 2 + 2) / (8 * 7))


def test_unequal_batches_are_refused_by_all_processes(ranks: list[dict[Any, Any]]) -> None:
    for found in ranks:
        assert re.search(r"\[3, 2\] rows of one batch.*drop the last incomplete one", found["refused"])
