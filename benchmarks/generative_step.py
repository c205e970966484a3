"""One step of the generative stage, the shared pass beside the three passes of the official code.

Both forms have the same weights, pairs and captions, and must say the same before they are timed. The plain one
pads every text to 80 tokens, as the official loader does, and sees the pictures anew in each step. Proportions
are those of InternVL-14B (96 queries, 257 vision tokens, blocks 48 to 32, cross-attention in every other layer),
widths an eighth. fp32, one thread, forward and backward.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import interleaved, ratio_of_medians
from models.config import InternVLConfig, TextConfig, VisionConfig
from models.generative_objective import GenerativeObjective
from models.grad_cache import accumulate
from models.internvl import InternVL
from models.losses import IGNORE
from models.negatives import MINED, OTHER, OWN
from models.objective import totals_of
from models.plain_generative import PlainGenerativeObjective

SIZE = InternVLConfig(
    vision=VisionConfig(
        image_size=224,
        patch_size=14,
        hidden_size=400,
        num_hidden_layers=6,
        num_attention_heads=5,
        intermediate_size=1600,
    ),
    text=TextConfig(
        vocab_size=6244, hidden_size=512, intermediate_size=1376, num_hidden_layers=4, num_attention_heads=8
    ),
    embed_dim=96,
    attn_pool_num_heads=8,
    num_query_token=96,
    cross_attention_frequency=2,
    context_length=80,
)
BATCH_SIZE, ROUNDS, GOAL = 16, 6, 2.0
SUMMARIZE, PROMPT = 4, 4
"""Tokens of the fixed words in front of a caption."""
LENGTHS = (
    1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 8, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10,
    11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 15, 15, 16, 16, 17, 18, 19, 19, 20, 21, 22, 24, 25, 27, 29, 31, 33, 36,
    40, 45, 53, 78,
)  # fmt: skip
"""Tokens of captions of the web, 64 quantiles of 20,000 alternative texts (mean 15; BPE of 32,000 entries)."""


def batch_of(size: InternVLConfig, rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Return a batch whose captions have every so many-th of LENGTHS: each batch has the whole mix."""
    random, order = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    lengths = order.permutation(
        np.resize(np.array(LENGTHS)[(2 * np.arange(rows) + 1) * len(LENGTHS) // (2 * rows)], rows)
    )
    words = [torch.randint(3, size.text.vocab_size, (int(length),), generator=random) for length in lengths]
    prefix = torch.arange(3, 3 + PROMPT)
    batch = {
        "row": torch.arange(rows),
        "pixel_values": torch.randn(rows, 3, size.vision.image_size, size.vision.image_size, generator=random),
        "image_id": torch.arange(rows),
        "caption_id": torch.arange(rows),
        "other_id": torch.arange(rows).roll(-1),
        "judged": torch.tensor([(OWN, MINED, OWN, OTHER)[row % 4] for row in range(rows)]),
        "uniform": torch.rand(rows, 2, generator=random, dtype=torch.float64),
    }
    readings = {"summary": prefix[:SUMMARIZE], "caption": prefix[:0], "prompted": prefix}
    for name, front in readings.items():
        texts = [torch.cat([torch.tensor([1]), front, text, torch.tensor([2])]) for text in words]
        batch |= _padded(name, [text[: size.context_length] for text in texts])
    batch |= _padded("other", [words[(row + 1) % rows] for row in range(rows)])
    labels = batch["prompted_input_ids"].masked_fill(batch["prompted_attention_mask"] == 0, IGNORE)
    labels[:, : 1 + PROMPT] = IGNORE
    return batch | {"prompted_labels": labels}


def _padded(name: str, texts: list[Tensor]) -> dict[str, Tensor]:
    longest = max(map(len, texts))
    ids = torch.stack([F.pad(text, (0, longest - len(text))) for text in texts])
    mask = torch.stack([(torch.arange(longest) < len(text)).long() for text in texts])
    return {f"{name}_input_ids": ids, f"{name}_attention_mask": mask}


def official(batch: dict[str, Tensor], pairs: dict[str, Tensor], tokens: int) -> dict[str, Tensor]:
    """Return the batch as the plain form reads it, texts padded to a fixed width."""
    wanted = {
        name: value
        for name, value in {**batch, **pairs}.items()
        if name.startswith(("itm_", "summary_", "prompted_"))
    }
    return {
        "pixel_values": batch["pixel_values"],
        "image_id": batch["image_id"],
        "caption_id": batch["caption_id"],
        **{
            name: F.pad(value, (0, tokens - value.shape[1]), value=IGNORE if "labels" in name else 0)
            if value.ndim == 2
            else value
            for name, value in wanted.items()
        },
    }


def candidates(size: InternVLConfig, rows: int) -> dict[str, Callable[[], float]]:
    """Return the steps that are compared; each returns its loss.

    Raises:
        RuntimeError: The two forms give different losses or gradients.
    """
    torch.manual_seed(0)
    model = InternVL(size)
    batch = batch_of(size, rows)
    fast = GenerativeObjective(model)
    texts_kept = GenerativeObjective(model, text_bytes=1 << 30)
    kept = GenerativeObjective(model, vision_bytes=1 << 30, text_bytes=1 << 30)
    with torch.no_grad():
        pairs = fast.joint(fast(batch, call="embed")).context
    padded = official(batch, pairs, size.context_length)

    def step(objective: Any, given: dict[str, Tensor]) -> Callable[[], float]:
        def run() -> float:
            objective.zero_grad(set_to_none=True)
            totals = totals_of(objective, [given])
            return float(accumulate(objective, [given], totals, Tensor.backward, nullcontext)["loss"])

        return run

    def tower() -> float:
        with torch.no_grad():
            return float(model.see(batch["pixel_values"]).mean())

    steps = {"plain": step(PlainGenerativeObjective(model), padded), "fast": step(fast, batch)}
    _must_agree(model, steps)
    return {
        **steps,
        "fast, text vectors kept": step(texts_kept, batch),
        "fast, features kept": step(kept, batch),
        "vision tower alone": tower,
    }


def _must_agree(model: InternVL, steps: dict[str, Callable[[], float]]) -> None:
    found = {}
    for name, step in steps.items():
        loss = step()
        found[name] = (loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    (one, first), (other, second) = found.values()
    largest = max(float(each.abs().max()) for each in first.values())
    gap = max(float((first[name] - second[name]).abs().max()) for name in first)
    if first.keys() != second.keys() or abs(one - other) > 1e-5 * abs(one) or gap > 1e-4 * largest:
        raise RuntimeError("both forms differ with the same weights and pairs; time means nothing")


def measure(size: InternVLConfig = SIZE, rows: int = BATCH_SIZE, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return CPU seconds of a step and how many times the fast form's the plain one takes.

    Returns:
        `cpu_seconds` by candidate (medians); `plain / fast`, whole steps that see pictures and texts anew;
        `plain / fast, text vectors kept`, where a caption is met again and its vector, a constant of the stage, is
        known; and `plain / fast, features kept`, where all that the towers say is known and the plain form is
        spared its vision tower too: each as `ratio`, `low`, `high` (95 % bootstrap) and `goal`.
    """
    torch.set_num_threads(1)
    seconds = interleaved(candidates(size, rows), rounds, dropped=1)
    spared = seconds["plain"] - seconds["vision tower alone"]
    compared = {
        "plain / fast": (seconds["plain"], seconds["fast"]),
        "plain / fast, text vectors kept": (seconds["plain"], seconds["fast, text vectors kept"]),
        "plain / fast, features kept": (spared, seconds["fast, features kept"]),
    }
    ratios = {}
    for name, (slow, quick) in compared.items():
        ratio, low, high = ratio_of_medians(slow, quick)
        ratios[name] = {"ratio": round(ratio, 2), "low": round(low, 2), "high": round(high, 2), "goal": GOAL}
    return {
        "cpu_seconds": {name: round(float(np.median(each)), 4) for name, each in seconds.items()},
        "ratios": ratios,
        "batch_size": rows,
        "size": size.model_dump(),
    }
