"""One step of contrastive training beside open_clip's, at equal towers: losses, clipping and AdamW included.

Both have the same pictures, widths, depths, heads, layer scales, vocabulary and weights to train. Ours has RMSNorm,
normalised queries and keys, attention pooling and a LLaMA's text tower with rotary positions. Its gated layers
have three matrices where CLIP's have two, and are narrower: both text towers have as many weights. open_clip's has
LayerNorm and a class token, and is spared the norms before and after its blocks; it is given our fused AdamW.

open_clip pads every text to the context length. fp32, one thread.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor, nn

from benchmarks.generative_step import SIZE, batch_of
from benchmarks.timing import interleaved, ratio_of_medians
from models.config import InternVLConfig
from models.contrastive_objective import ContrastiveObjective
from models.grad_cache import accumulate
from models.internvl import MAX_LOGIT_SCALE, InternVL
from models.objective import totals_of
from models.vision_embeddings import kept_patches
from stages.training.optimizer import optimizer_of
from stages.training.placing import Placed
from stages.training.schedule import Schedule
from stages.training.task import parameter_groups

BATCH_SIZE, ROUNDS, MASKED = 8, 7, 0.5
SCHEDULE = Schedule(global_batch_size=BATCH_SIZE, steps=100, learning_rate=1e-5)
"""A rate so small that weights, and with them the work, stay ordinary."""
GOALS = {"open_clip / ours": 1.0, "open_clip / ours, half masked and unpadded": 1.8}
"""How many times the CPU time of ours open_clip's step should take."""
OTHERS = (
    "open_clip, attention pooling / ours",
    "open_clip, half masked / ours, half masked and unpadded",
    "open_clip / ours, unpadded",
    "open_clip / ours, without oneDNN",
    "open_clip / ours, half masked and unpadded, without oneDNN",
)
"""What else is told: its pooling as ours; its own masking, which leaves texts padded; our texts alone unpadded; and
ours where matrix products are PyTorch's own (docs/decisions/0003-onednn-on-a-cpu.md), as on any other device."""


def our_step(config: InternVLConfig, batch: Mapping[str, Tensor]) -> Callable[[], float]:
    """Return a step of our loop on one process, with the objective and the optimizer of the contrastive stage."""
    torch.manual_seed(0)
    objective = ContrastiveObjective(InternVL(config, generative=False))
    objective.model.qllama.lm_head.requires_grad_(False)
    groups = parameter_groups(objective.named_parameters(), SCHEDULE.weight_decay)
    trained = [parameter for group in groups for parameter in group["params"]]
    placed = Placed(objective.train(), objective, optimizer_of(groups, SCHEDULE), trained, Tensor.backward)

    def step() -> float:
        totals = totals_of(placed.objective, [batch])
        losses = accumulate(placed.module, [batch], totals, placed.backward, placed.no_sync)
        placed.clip(SCHEDULE.max_grad_norm)
        placed.step()
        return float(losses["loss"])

    return step


def without_onednn(step: Callable[[], float]) -> Callable[[], float]:
    """Return a step whose matrix products are PyTorch's own."""

    def run() -> float:
        with torch.backends.mkldnn.flags(enabled=False):
            return step()

    return run


def their_model(config: InternVLConfig, *, masked: float = 0.0, pooling: bool = False) -> Any:
    """Return open_clip's model with the sizes of ours."""
    vision, text = config.vision, config.text
    gated = 3 * text.intermediate_size * text.hidden_size
    return open_clip.CLIP(
        embed_dim=config.embed_dim,
        vision_cfg={
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "width": vision.hidden_size,
            "layers": vision.num_hidden_layers,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
            "ls_init_value": vision.initializer_factor,
            "patch_dropout": masked,
            "no_ln_pre": True,
            "final_ln_after_pool": True,
            "attentional_pool": pooling,
            "attn_pooler_queries": 1,
            "attn_pooler_heads": config.attn_pool_num_heads,
        },
        text_cfg={
            "context_length": config.context_length,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": gated / (2 * text.hidden_size**2),
        },
        output_dict=True,
    )


def their_step(model: Any, batch: Mapping[str, Tensor]) -> Callable[[], float]:
    """Return a step as `open_clip_train` takes it: forward, loss, backward, clipping, AdamW, bounds of the scale."""
    loss = open_clip.ClipLoss()
    parameters = list(model.train().parameters())
    optimizer = optimizer_of(parameter_groups(model.named_parameters(), SCHEDULE.weight_decay), SCHEDULE)

    def step() -> float:
        optimizer.zero_grad()
        found = loss(**model(batch["pixel_values"], batch["input_ids"]))
        found.backward()
        nn.utils.clip_grad_norm_(parameters, SCHEDULE.max_grad_norm)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        return float(found.detach())

    return step


def batches(config: InternVLConfig, rows: int) -> dict[str, dict[str, Tensor]]:
    """Return pairs whose texts all have the context length (`full`), and a realistic mix of lengths (`mixed`).

    `masked` has the texts of `mixed` and half of the patches.
    """
    drawn, vision = batch_of(config, rows), config.vision
    mixed = {
        "pixel_values": drawn["pixel_values"],
        "input_ids": drawn["summary_input_ids"],
        "attention_mask": drawn["summary_attention_mask"],
    }
    ids = torch.randint(3, config.text.vocab_size, (rows, config.context_length))
    full = {**mixed, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    order = torch.rand(rows, vision.grid**2).argsort(dim=1).argsort(dim=1)
    keep = (order < round(vision.grid**2 * (1 - MASKED))).view(rows, vision.grid, vision.grid)
    shown = kept_patches(drawn["pixel_values"], keep, vision.patch_size)
    return {"full": full, "mixed": mixed, "masked": {**mixed, "pixel_values": shown, "keep_patches": keep}}


def candidates(config: InternVLConfig, rows: int) -> dict[str, Callable[[], float]]:
    """Return the steps that are compared; each returns its loss.

    Raises:
        RuntimeError: The towers are not of equal size.
    """
    torch.manual_seed(0)
    given = batches(config, rows)
    their, ours = weights(their_model(config)), weights(InternVL(config, generative=False))
    if not all(0.98 < their[tower] / ours[tower] < 1.02 for tower in ours):
        raise RuntimeError(
            f"open_clip's towers have {their} weights in their blocks, ours {ours}; time means nothing"
        )
    bare, half = our_step(config, given["full"]), our_step(config, given["masked"])
    return {
        "open_clip": their_step(their_model(config), given["full"]),
        "ours": bare,
        "ours, unpadded": our_step(config, given["mixed"]),
        "ours, half masked and unpadded": half,
        "ours, without oneDNN": without_onednn(bare),
        "ours, half masked and unpadded, without oneDNN": without_onednn(half),
        "open_clip, half masked": their_step(their_model(config, masked=MASKED), given["full"]),
        "open_clip, attention pooling": their_step(their_model(config, pooling=True), given["full"]),
    }


def weights(model: nn.Module) -> dict[str, int]:
    """Return how many weights the blocks of either tower have."""
    found = {"vision": 0, "text": 0}
    for name, value in model.named_parameters():
        if "layers." in name or "resblocks." in name:
            found["vision" if name.startswith("vis") else "text"] += value.numel()
    return found


def measure(config: InternVLConfig = SIZE, rows: int = BATCH_SIZE, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return CPU seconds of a step, and how many times ours open_clip's takes.

    Returns:
        `cpu_seconds` by candidate (medians), and `ratios`, each as `ratio`, `low`, `high` (95 % bootstrap), `goal`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = interleaved(candidates(config, rows), rounds, dropped=1)
    finally:
        torch.set_num_threads(threads)
    ratios = {}
    for pair in (*GOALS, *OTHERS):
        slow, fast = pair.split(" / ")
        ratio, low, high = ratio_of_medians(seconds[slow], seconds[fast])
        ratios[pair] = {
            "ratio": round(ratio, 3),
            "low": round(low, 3),
            "high": round(high, 3),
            "goal": GOALS.get(pair),
        }
    return {
        "cpu_seconds": {name: round(float(np.median(each)), 4) for name, each in seconds.items()},
        "ratios": ratios,
        "batch_size": rows,
        "rounds": rounds,
        "size": config.model_dump(),
    }
