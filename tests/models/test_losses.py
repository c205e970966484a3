"""Losses: against their formulas, and the same on two processes as on one."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from models.losses import caption_losses, gather, labelled, shared

ROWS, WORDS = 8, 11


def words() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(ROWS, 6, WORDS, generator=generator)
    labels = torch.randint(0, WORDS, (ROWS, 6), generator=generator)
    for row in range(ROWS):
        labels[row, 2 + row // 2 :] = -100  # rows differ in length, and so do the halves
    return logits.requires_grad_(), labels


def mean(logits: torch.Tensor, labels: torch.Tensor, total: torch.Tensor | None = None) -> torch.Tensor:
    """Return this process's share of the mean loss by token, as objectives do."""
    return shared(caption_losses(logits, labels).sum(), labelled(labels).sum(), total)


def test_captions_weigh_by_tokens_and_ignore_padding() -> None:
    logits, labels = words()
    picked = [
        F.cross_entropy(logits[row, place - 1][None], labels[row, place][None]).item()
        for row in range(ROWS)
        for place in range(1, 6)
        if labels[row, place] != -100
    ]
    assert mean(logits, labels).item() == pytest.approx(sum(picked) / len(picked), rel=1e-5)
    assert mean(logits, torch.full_like(labels, -100)).item() == 0


def test_shares_of_micro_batches_add_up_to_the_mean_of_all() -> None:
    logits, labels = words()
    tokens = labelled(labels).sum().float()
    cuts = list(zip(*(each.split([1, 5, 2]) for each in (logits, labels)), strict=True))
    captions = sum(mean(*cut, tokens).item() for cut in cuts)
    assert captions == pytest.approx(mean(logits, labels).item(), rel=1e-6)
    assert sum(mean(*cut).item() for cut in cuts) / 3 != pytest.approx(captions, rel=1e-3)


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    piece = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    logits, labels = words()
    rows = torch.arange(ROWS)[piece].double().requires_grad_()
    gathered = gather(rows)
    (gathered**2 * (rank + 1)).sum().backward()
    loss = mean(logits[piece], labels[piece])
    loss.backward()
    found = {"gathered": gathered, "rows": rows.grad, "loss": loss, "logits": logits.grad}
    torch.save({name: value.detach() for name, value in found.items()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for found in ranks:
        assert found["gathered"].tolist() == list(range(ROWS))
    # A row's gradient comes from both processes' losses: once from the first, twice from the second.
    assert torch.cat([found["rows"] for found in ranks]).tolist() == [6 * row for row in range(ROWS)]
    # A training loop takes the mean of losses and gradients over processes.
    averaged = {name: (ranks[0][name] + ranks[1][name]) / 2 for name in ("loss", "logits")}
    logits, labels = words()
    loss = mean(logits, labels)
    loss.backward()
    assert logits.grad is not None
    assert averaged["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(averaged["logits"], logits.grad, atol=1e-7)
    assert ranks[0]["loss"].item() != pytest.approx(loss.item(), rel=1e-3), "the halves differ"
