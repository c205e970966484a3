"""Memory and time of the contrastive loss, walked in blocks, beside losses that hold the whole square.

One forward and backward over a batch of pairs on one process, fp32, one thread. Beside ours stand the loss by
the book (two directions of one square) and open_clip's `ClipLoss`. All must give one loss and one gradient
before they are measured. Memory is what the resident set of a fresh process grows to at its peak, inputs not
counted; time is CPU seconds, interleaved.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import interleaved, ratio_of_medians
from models.contrastive_loss import info_nce

PAIRS, EMBED_DIM, ROUNDS = 4096, 768, 5
GOAL = 1 / 3
"""Most memory of ours, as a share of the loss by the book."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_the_book(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return the loss from the square itself, made once for both directions."""
    logits = scale * image @ text.T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def of_open_clip(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return open_clip's loss."""
    # Imported here: a fresh process that measures another loss shall not carry it.
    from open_clip.loss import ClipLoss

    return torch.as_tensor(ClipLoss()(image, text, scale))


def in_blocks(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return ours."""
    return info_nce(image, text, scale).loss


LOSSES: dict[str, Loss] = {"by the book": by_the_book, "open_clip": of_open_clip, "ours": in_blocks}


def inputs(pairs: int, embed_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit vectors of pairs that resemble each other a little, and a scale."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(pairs, embed_dim, generator=generator)
    text = image + 2 * torch.randn(pairs, embed_dim, generator=generator)
    leaves = F.normalize(image), F.normalize(text), torch.tensor(30.0)
    return leaves[0].requires_grad_(), leaves[1].requires_grad_(), leaves[2].requires_grad_()


def step(loss: Loss, given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the loss, detached; its gradients are left in the inputs."""
    for leaf in given:
        leaf.grad = None
    value = loss(*given)
    value.backward()
    return value.detach()


def check(pairs: int, embed_dim: int) -> float:
    """Return the largest difference of a gradient to that of the loss by the book, relative to its largest value.

    Raises:
        RuntimeError: Losses or gradients differ; memory and time mean nothing then.
    """
    found = {}
    for name, loss in LOSSES.items():
        given = inputs(pairs, embed_dim)
        found[name] = [step(loss, given), *(leaf.grad for leaf in given if leaf.grad is not None)]
    expected = found["by the book"]
    worst = max(
        float((one - other).abs().max() / other.abs().max())
        for each in found.values()
        for one, other in zip(each, expected, strict=True)
    )
    if worst > 1e-4:
        raise RuntimeError(f"the losses differ by {worst:.1g} of their gradients; memory and time mean nothing")
    return worst


def _resident(field: str) -> int:
    """Return a size from this process's status, in bytes: `VmRSS` now, `VmHWM` at its peak."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}; measure memory on Linux")
    return 1024 * int(found[1])


def growth(name: str, pairs: int, embed_dim: int) -> int:
    """Return by how many bytes the resident set of this process grows at its peak during one step."""
    torch.set_num_threads(1)
    # What libraries allocate once and for all is there after a small step.
    step(LOSSES[name], inputs(64, embed_dim))
    given = inputs(pairs, embed_dim)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _resident("VmRSS")
    step(LOSSES[name], given)
    return _resident("VmHWM") - before


def grown(name: str, pairs: int, embed_dim: int) -> int:
    """Return what `growth` says in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.contrastive_loss", name, str(pairs), str(embed_dim)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def measure(pairs: int = PAIRS, embed_dim: int = EMBED_DIM, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return peak memory, CPU seconds and their ratios."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        difference = check(pairs, embed_dim)
        given = inputs(pairs, embed_dim)
        seconds = interleaved({name: partial(step, loss, given) for name, loss in LOSSES.items()}, rounds, dropped=1)
    finally:
        torch.set_num_threads(threads)
    peak = {name: grown(name, pairs, embed_dim) for name in LOSSES}
    others = [name for name in LOSSES if name != "ours"]
    return {
        "pairs": pairs,
        "embed_dim": embed_dim,
        "rounds": rounds,
        "threads": 1,
        "largest_relative_difference": difference,
        "peak_bytes": peak,
        "cpu_seconds_per_step": {name: float(np.median(each)) for name, each in seconds.items()},
        "memory_share_of_ours": {name: peak["ours"] / peak[name] for name in others},
        "memory_goal": GOAL,
        "cpu_ratio_to_ours": {name: ratio_of_medians(seconds[name], seconds["ours"])[0] for name in others},
    }


def main(words: list[str]) -> None:
    """Print the growth of one loss as JSON, where one is named; else everything."""
    if words:
        print(json.dumps(growth(words[0], int(words[1]), int(words[2]))))
    else:
        print(json.dumps(measure(), indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
