"""What a step takes of memory, as PyTorch's CPU allocator tells it: each block handed out or given back, in turn."""

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.contrastive_objective import ContrastiveObjective
from models.generative_objective import GenerativeObjective
from models.grad_cache import accumulate
from models.internvl import InternVL
from models.memory_blocks import How, contrastive_blocks
from models.memory_stages import Conversations, chat_blocks, generative_blocks
from models.memory_walk import Section
from models.objective import totals_of
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
ROWS, TOKENS = 16, 24
TALK = Conversations(rows=6, tokens=2 * CHAT.num_image_token + 20, tiles=12, learned=6 * 12)
KINDS = ("contrastive", "generative", "instruct", "instruct, vision frozen")


def world(kind: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return an objective and one batch whose texts are all of full length."""
    torch.manual_seed(0)
    if kind == "contrastive":
        objective = ContrastiveObjective(InternVL(TOWERS, generative=False))
        objective.model.qllama.lm_head.requires_grad_(False)
        ids = torch.randint(3, 300, (ROWS, TOKENS))
        pictures = torch.randn(ROWS, 3, 64, 64)
        return objective, {"pixel_values": pictures, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if kind == "generative":
        return GenerativeObjective(InternVL(TOWERS)), _pairs()
    model, seen = InternVLChat(CHAT), 2 * CHAT.num_image_token
    model.vision_model.requires_grad_(kind == "instruct")
    ids = torch.full((TALK.rows, TALK.tokens), 7)
    ids[:, :seen] = 99
    labels = torch.full_like(ids, IGNORE)
    labels[:, -12:] = 7
    return model, {"input_ids": ids, "labels": labels, "pixel_values": torch.randn(TALK.tiles, 3, 64, 64)}


def _pairs() -> dict[str, Tensor]:
    ids, rows = torch.full((ROWS, TOKENS), 5), torch.arange(ROWS)
    batch = {
        "row": rows,
        "pixel_values": torch.randn(ROWS, 3, 64, 64),
        "image_id": rows,
        "caption_id": rows,
        "other_id": rows.roll(1),
        "judged": rows % 2,
        "uniform": torch.rand(ROWS, 2, dtype=torch.float64),
        "prompted_labels": ids.clone(),
    }
    for name in ("summary", "caption", "other", "prompted"):
        batch |= {f"{name}_input_ids": ids, f"{name}_attention_mask": torch.ones_like(ids)}
    return batch


def sections(kind: str, recompute: bool, processes: int = 1) -> list[Section]:
    """Return the blocks that the forecast goes by."""
    how = How(recompute=recompute)
    if kind == "contrastive":
        return contrastive_blocks(TOWERS, ROWS, TOKENS, how, everyone=processes * ROWS)
    if kind == "generative":
        return generative_blocks(TOWERS, ROWS, TOKENS, how, everyone=processes * ROWS)
    talk = Conversations(**{**vars(TALK), "vision_learns": kind == "instruct"})
    return chat_blocks(CHAT, talk, how)


def peak(step: Callable[[], Any]) -> int:
    """Return the most bytes that the allocator had handed out during a step, beyond those at its beginning."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    found = [each for each in events if each.get("name") == "[memory]" and each["args"]["Device Type"] == 0]
    assert found, "the profiler told nothing of memory"
    live = most = 0
    for event in sorted(found, key=lambda each: each["ts"]):
        live += event["args"]["Bytes"]
        most = max(most, live)
    return most


def states(module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of weights, of AdamW's moments and of gradients that wait, as they lie here."""
    tensors = [*module.parameters(), *(each.grad for each in module.parameters() if each.grad is not None)]
    tensors += [each for state in optimizer.state.values() for each in state.values()]
    local = [each.to_local() if hasattr(each, "to_local") else each for each in tensors]
    return sum(each.untyped_storage().nbytes() for each in local)


def measured(kind: str, recompute: bool, sharding: str = "") -> dict[str, int]:
    """Return what a second step took on top of the states, and the states."""
    torch.set_num_threads(1)
    objective, batch = world(kind)
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
    step()
    return {"states": states(objective, optimizer), "peak": peak(step)}


def main() -> None:
    """Measure as one of several processes: kind, recompute, sharding, rank, processes, meeting file, answer."""
    kind, recompute, sharding, rank, processes, meeting, answer = sys.argv[1:]
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=int(processes)
    )
    found = measured(kind, recompute == "True", sharding)
    if rank == "0":
        Path(answer).write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
