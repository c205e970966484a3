"""What a step takes of memory, as PyTorch's CPU allocator tells it: each block handed out or given back, in turn."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.grad_cache import accumulate
from models.objective import totals_of
from models.step_shape import Shape
from models.trials import batches, objective_of
from stages.training.sharding import shard

VISION = VisionConfig(
    image_size=64, patch_size=8, hidden_size=96, num_hidden_layers=3, num_attention_heads=3, intermediate_size=384
)
TEXT = TextConfig(vocab_size=300, hidden_size=96, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4)
TOWERS = InternVLConfig(
    vision=VISION,
    text=TEXT,
    embed_dim=32,
    attn_pool_num_heads=4,
    num_query_token=12,
    cross_attention_frequency=2,
    context_length=24,
)
CHAT = ChatConfig(vision=VISION, text=TEXT, image_context_token_id=99, eos_token_id=2)
LENGTH = 2 * CHAT.num_image_token + 20
"""Of a conversation: two tiles and some text."""
TALK = Shape("instruct", chat=CHAT, tokens=6 * LENGTH, tiles=12, length=LENGTH, packed=True)
ROWS, TOKENS = 16, 24
SHAPES = {
    "contrastive": Shape("contrastive", towers=TOWERS, tokens=TOKENS),
    "generative": Shape("generative", towers=TOWERS, tokens=TOKENS),
    "instruct": TALK,
    "instruct, vision frozen": Shape(**{**vars(TALK), "vision_learns": False}),
}
SPREAD = {"fsdp2": "contrastive", "ddp": "instruct"}
"""What is measured over two processes."""


def peak(step: Callable[[], Any]) -> int:
    """Return the most bytes that the allocator had handed out during a step, beyond those at its beginning."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    assert seen.profiler is not None
    found = [each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    assert found, "the profiler told nothing of memory"
    live = most = 0
    for event in sorted(found, key=lambda each: each.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most


def states(module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of weights, of AdamW's moments and of gradients that wait, as they lie here."""
    tensors = [*module.parameters(), *(each.grad for each in module.parameters() if each.grad is not None)]
    tensors += [each for state in optimizer.state.values() for each in state.values()]
    local = [each.to_local() if hasattr(each, "to_local") else each for each in tensors]
    return sum(each.untyped_storage().nbytes() for each in local)


def measured(kind: str, recompute: bool, sharding: str = "") -> dict[str, int]:
    """Return what a later step took on top of the states, the states, and how much learns of how much."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = SHAPES[kind]
    objective = objective_of(shape)
    assert isinstance(objective, nn.Module)
    (batch,) = batches(shape, 1 if shape.packed else ROWS, 1)
    sizes = [(each.numel(), each.requires_grad) for each in objective.parameters()]
    for part in objective.modules():
        if hasattr(part, "gradient_checkpointing"):
            part.gradient_checkpointing = recompute
    module: nn.Module = objective
    if sharding == "fsdp2":
        shard(objective, torch.device("cpu"), bf16=False)
    elif sharding == "ddp":
        module = nn.parallel.DistributedDataParallel(
            objective, gradient_as_bucket_view=True, broadcast_buffers=False, find_unused_parameters=False
        )
    learned = [each for each in objective.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4, fused=True)

    def step() -> None:
        accumulate(module, [batch], totals_of(objective, [batch]), Tensor.backward, nullcontext)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    if sharding:
        step()  # in the second, DDP lays its buckets anew
    found = peak(step)
    return {
        "states": states(objective, optimizer),
        "peak": found,
        "parameters": sum(size for size, _ in sizes),
        "trained": sum(size for size, learns in sizes if learns),
    }


def main() -> None:
    """Measure as two processes, the second a fork of the first: meeting file, answer."""
    meeting, answer = sys.argv[1:]
    child = os.fork()
    rank = 0 if child else 1
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    found = {sharding: measured(kind, True, sharding) for sharding, kind in SPREAD.items()}
    torch.distributed.destroy_process_group()
    if rank:
        os._exit(0)
    Path(answer).write_text(json.dumps(found))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
