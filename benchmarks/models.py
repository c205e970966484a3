"""One train step of the vision tower beside its peers: transformers' InternVL and open_clip's ViT, at equal sizes.

A step is forward, loss on the class token, backward and a fused AdamW; fp32, one thread. Ours and transformers'
carry the same weights (RMSNorm, qk-normalisation) and must say the same before they are timed. open_clip's
tower has LayerNorm and no qk-normalisation, and is spared its norms before and after the blocks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from benchmarks.timing import interleaved, publish, ratio_of_medians, surroundings
from models.config import VisionConfig
from models.drawn_masks import drawn_patches
from models.intern_vit import InternVisionModel
from models.native_config import native_vision_config
from models.vision_embeddings import kept_patches
from models.weights import vision_to_native

SIZE = VisionConfig(
    image_size=224, patch_size=14, hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=768
)
BATCH_SIZE, ROUNDS, MASKED = 8, 20, 0.5
RESULTS = Path(__file__).parent / "results" / "models.json"
GOALS = {
    "transformers / ours": 1.3,
    "open_clip / ours": 1.0,
    "transformers / ours, half masked": 2.0,
}
"""How many times the CPU time of ours the others should take."""


def train_step(model: nn.Module, forward: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Return one whole step of training; `forward` gives the class token, shape (batch, width)."""
    # As large as a fine-tuning rate, so that the weights and with them the work stay ordinary.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        forward().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def candidates(size: VisionConfig, batch_size: int) -> dict[str, Callable[[], None]]:
    """Return the train steps that are compared.

    Raises:
        RuntimeError: Ours and transformers' give different numbers with the same weights.
    """
    torch.manual_seed(0)
    pixels = torch.randn(batch_size, size.num_channels, size.image_size, size.image_size)
    kept = max(1, round(size.grid**2 * (1 - MASKED)))
    steps: dict[str, Callable[[], None]] = {}

    native = InternVLVisionModel(InternVLVisionConfig(**native_vision_config(size), attn_implementation="sdpa"))
    ours, ours_masked = InternVisionModel(size).train(), InternVisionModel(size).train()
    native.train().load_state_dict(vision_to_native(ours.state_dict()))
    with torch.no_grad():
        wanted, found = native(pixels).last_hidden_state, ours(pixels).last_hidden_state
        if (wanted - found).abs().max() > 1e-5 * wanted.abs().max():
            raise RuntimeError("ours and transformers' tower differ with the same weights; time means nothing")
    steps["transformers"] = train_step(native, lambda: native(pixels).last_hidden_state[:, 0])
    steps["ours"] = train_step(ours, lambda: ours(pixels).pooler_output)

    def clip_step(masked: float) -> Callable[[], None]:
        tower = open_clip.transformer.VisionTransformer(
            image_size=size.image_size,
            patch_size=size.patch_size,
            width=size.hidden_size,
            layers=size.num_hidden_layers,
            heads=size.num_attention_heads,
            mlp_ratio=size.intermediate_size / size.hidden_size,
            ls_init_value=size.initializer_factor,
            output_dim=size.hidden_size,
            patch_dropout=masked,
            no_ln_pre=True,
            final_ln_after_pool=True,
        ).train()
        return train_step(tower, lambda: tower(pixels))

    def ours_half() -> torch.Tensor:
        keep = drawn_patches(batch_size, size.grid, kept)
        return torch.as_tensor(ours_masked(kept_patches(pixels, keep, size.patch_size), keep).pooler_output)

    steps["open_clip"] = clip_step(0.0)
    steps["ours, half masked"] = train_step(ours_masked, ours_half)
    steps["open_clip, half masked"] = clip_step(MASKED)
    return steps


def measure(size: VisionConfig = SIZE, batch_size: int = BATCH_SIZE, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return the table: CPU-seconds per step, pictures per second of one core, and ratios with intervals."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = interleaved(candidates(size, batch_size), rounds)
    finally:
        torch.set_num_threads(threads)
    pairs = [tuple(name.split(" / ")) for name in [*GOALS, "open_clip, half masked / ours, half masked"]]
    medians = {name: float(np.median(each)) for name, each in seconds.items()}
    ratios = {}
    for slow, fast in pairs:
        ratio, low, high = ratio_of_medians(seconds[slow], seconds[fast])
        goal = GOALS.get(f"{slow} / {fast}")
        ratios[f"{slow} / {fast}"] = {"ratio": ratio, "interval_95": [low, high], "goal": goal}
    return {
        **surroundings(("torch", "transformers", "open_clip_torch")),
        "size": size.model_dump(),
        "batch_size": batch_size,
        "rounds": rounds,
        "threads": 1,
        "cpu_seconds_per_step": medians,
        "pictures_per_core_second": {name: batch_size / each for name, each in medians.items()},
        "ratios": ratios,
    }


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    lines = [f"{'train step of':26} {'CPU s':>7} {'pictures/core-s':>16}"]
    for name, seconds in result["cpu_seconds_per_step"].items():
        lines.append(f"{name:26} {seconds:7.3f} {result['pictures_per_core_second'][name]:16.1f}")
    lines += ["", f"{'ratio':44} {'':5} {'95 % interval':>15} {'goal':>5}"]
    for name, ratio in result["ratios"].items():
        low, high = ratio["interval_95"]
        goal = "" if ratio["goal"] is None else f"{ratio['goal']:.2f}"
        lines.append(f"{name:44} {ratio['ratio']:5.2f} {f'{low:.2f} to {high:.2f}':>15} {goal:>5}")
    return "\n".join(lines)


def main(path: Path = RESULTS) -> None:
    """Measure, write the JSON, print the table."""
    result = measure()
    publish(result, table(result), path)


if __name__ == "__main__":
    main()
