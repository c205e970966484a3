"""The contrastive objective over a whole model: masked pictures, dropped blocks, unpadded texts in micro batches."""

from contextlib import nullcontext

import pytest
import torch

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.contrastive_objective import ContrastiveObjective
from models.grad_cache import accumulate
from models.internvl import InternVL
from models.objective import totals_of
from models.vision_embeddings import kept_patches

ROWS, SIDE, PATCH = 8, 24, 8
Batch = dict[str, torch.Tensor]


def objective(generative: bool = False) -> ContrastiveObjective:
    vision = VisionConfig(
        image_size=32,
        patch_size=PATCH,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        drop_path_rate=0.5,
        drop_path_schedule="uniform",
    )
    text = TextConfig(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    config = InternVLConfig(vision=vision, text=text, embed_dim=8, attn_pool_num_heads=2, num_query_token=3)
    torch.manual_seed(0)
    return ContrastiveObjective(InternVL(config, generative=generative)).double().train()


def batch_of() -> Batch:
    random = torch.Generator().manual_seed(1)
    lengths = torch.tensor([3, 9, 5, 5, 2, 9, 7, 4])
    mask = (torch.arange(9) < lengths[:, None]).long()
    keep = torch.zeros(ROWS, 9, dtype=torch.bool)
    for row in keep:
        row[torch.randperm(9, generator=random)[:5]] = True
    keep = keep.view(ROWS, 3, 3)
    pictures = torch.randn(ROWS, 3, SIDE, SIDE, generator=random, dtype=torch.float64)
    return {
        "pixel_values": kept_patches(pictures, keep, PATCH),
        "keep_patches": keep,
        "input_ids": torch.randint(3, 40, mask.shape, generator=random) * mask,
        "attention_mask": mask,
        "noise": torch.randint(-(2**63), 2**63 - 1, (ROWS,), generator=random),
        "image_id": torch.arange(ROWS),
        "caption_id": torch.tensor([0, 1, 2, 3, 4, 5, 6, 1]),
    }


def step(module: ContrastiveObjective, pieces: list[Batch]) -> tuple[float, Batch]:
    module.zero_grad()
    losses = accumulate(
        module,
        pieces,
        totals_of(module, pieces),
        backward=lambda loss: loss.backward(),
        no_sync=nullcontext,
    )
    return float(losses["loss"]), {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("generative", [False, True])
def test_micro_batches_drop_the_same_blocks_and_give_the_same_gradients(generative: bool) -> None:
    module, batch = objective(generative), batch_of()
    loss, gradients = step(module, [batch])
    assert len(gradients) > 30
    for size in (4, 3):
        # Padding is by micro batch, as a loader would do it.
        pieces = []
        for start in range(0, ROWS, size):
            piece = {name: value[start : start + size] for name, value in batch.items()}
            longest = int(piece["attention_mask"].sum(1).max())
            piece |= {name: piece[name][:, :longest] for name in ("input_ids", "attention_mask")}
            pieces.append(piece)
        torch.manual_seed(size)
        again, same = step(module, pieces)
        assert again == pytest.approx(loss, rel=1e-6) and same.keys() == gradients.keys()
        for name, gradient in gradients.items():
            # Unit vectors and interpolated positions are fp32 whatever the weights are.
            assert float((same[name] - gradient).abs().max()) <= 1e-6 * float(gradient.abs().max()) + 1e-9, name
    other, _ = step(module, [{**batch, "noise": batch["noise"] + 1}])
    assert other != pytest.approx(loss, rel=1e-6), "with other noise other blocks are dropped"
