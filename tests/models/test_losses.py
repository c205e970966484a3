"""Losses: against their formulas, and the same on two processes as on one."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from models.losses import caption_loss, gather, info_nce, matching_loss

ROWS, WIDTH, WORDS = 8, 5, 11


def features() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
    return image.requires_grad_(), text.requires_grad_(), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)


def words() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(ROWS, 6, WORDS, generator=generator)
    labels = torch.randint(0, WORDS, (ROWS, 6), generator=generator)
    for row in range(ROWS):
        labels[row, 2 + row // 2 :] = -100  # rows differ in length, and so do the halves
    return logits.requires_grad_(), labels


def contrast(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return info_nce(F.normalize(image, dim=-1), F.normalize(text, dim=-1), scale, label_smoothing=0.1)


def test_info_nce_is_its_formula() -> None:
    image, text, scale = features()
    one, other = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    odds = (scale * one @ other.T).exp()
    expected = (
        -((odds.diagonal() / odds.sum(dim=1)).log().mean() + (odds.diagonal() / odds.sum(dim=0)).log().mean()) / 2
    )
    assert info_nce(one, other, scale).item() == pytest.approx(expected.item(), rel=1e-6)


def test_label_smoothing_spreads_a_share_over_all_columns() -> None:
    same = F.normalize(torch.eye(4), dim=-1)
    scale = torch.tensor(30.0)
    assert info_nce(same, same, scale).item() < 1e-6
    # 0.1 of the target lies on four columns, three of which are 30 below the best.
    assert info_nce(same, same, scale, label_smoothing=0.1).item() == pytest.approx(0.1 * 3 / 4 * 30, rel=1e-5)


def test_captions_weigh_by_tokens_and_ignore_padding() -> None:
    logits, labels = words()
    picked = [
        F.cross_entropy(logits[row, place - 1][None], labels[row, place][None]).item()
        for row in range(ROWS)
        for place in range(1, 6)
        if labels[row, place] != -100
    ]
    assert caption_loss(logits, labels).item() == pytest.approx(sum(picked) / len(picked), rel=1e-5)
    assert caption_loss(logits, torch.full_like(labels, -100)).item() == 0


def test_matching_knows_right_from_wrong() -> None:
    sure = torch.tensor([[-9.0, 9.0], [9.0, -9.0]])
    assert matching_loss(sure, torch.tensor([1, 0])).item() < 1e-3
    assert matching_loss(sure, torch.tensor([0, 1])).item() > 10


def _worker(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    piece = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    image, text, scale = features()
    logits, labels = words()
    result: dict[str, torch.Tensor] = {"gathered": gather(torch.arange(ROWS)[piece])}
    loss = contrast(image[piece], text[piece], scale)
    loss.backward()
    for name, value in (("loss", loss.detach()), ("image", image.grad), ("text", text.grad), ("scale", scale.grad)):
        result[name] = value
    loss = caption_loss(logits[piece], labels[piece])
    loss.backward()
    result |= {"caption.loss": loss.detach(), "caption.logits": logits.grad}
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    # A training loop takes the mean of losses and gradients over processes.
    mean = {name: (ranks[0][name] + ranks[1][name]) / 2 for name in ranks[0]}
    assert mean["gathered"].tolist() == list(range(ROWS))
    image, text, scale = features()
    loss = contrast(image, text, scale)
    loss.backward()
    expected = {"loss": loss.detach(), "image": image.grad, "text": text.grad, "scale": scale.grad}
    for part, value in expected.items():
        assert value is not None and torch.allclose(mean[part], value, rtol=1e-5, atol=1e-7), part
    logits, labels = words()
    loss = caption_loss(logits, labels)
    loss.backward()
    assert logits.grad is not None
    assert mean["caption.loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(mean["caption.logits"], logits.grad, atol=1e-7)
    assert ranks[0]["caption.loss"].item() != pytest.approx(loss.item(), rel=1e-3), "the halves differ"
