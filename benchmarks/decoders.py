"""Our decoder beside transformers' LlamaForCausalLM, of equal size and with the same weights.

A train step is forward, next-token loss, backward and a fused AdamW; fp32, one thread. Samples of unequal length come
in rows padded to the longest for transformers, and packed into rows without padding for ours, which must give the same
numbers first. Decoding is greedy, with each one's own loop over a cache.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig
from transformers import LlamaForCausalLM as TheirLlama

from benchmarks.timing import interleaved, ratio_of_medians, surroundings
from models.config import TextConfig
from models.native_config import decoder_config
from models.packing import Packing
from models.qllama import LlamaForCausalLM

SIZE = TextConfig(vocab_size=2048, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4)
LENGTHS = (160, 24, 96, 40, 64, 128)
"""Tokens of the samples of unequal length."""
ROWS, ROUNDS, PROMPT, NEW = 4, 20, 32, 32
RESULTS = Path(__file__).parent / "results" / "decoders.json"
RATIOS = ("whole rows", "unequal lengths", "greedy decoding")


def _step(model: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, -2), ids.flatten())


def _pair(size: TextConfig) -> tuple[LlamaForCausalLM, Any]:
    theirs = TheirLlama(LlamaConfig(**decoder_config(size, pad_token_id=0), attn_implementation="sdpa"))
    ours = LlamaForCausalLM(size)
    theirs.load_state_dict(ours.state_dict())
    return ours.train(), theirs.train()


def _agree(found: torch.Tensor, wanted: torch.Tensor, what: str) -> None:
    if (found - wanted).abs().max() > 1e-5 * wanted.abs().max():
        raise RuntimeError(
            f"ours and transformers' decoder differ in {what} with the same weights; time means nothing"
        )


def candidates(size: TextConfig, lengths: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """Return what is compared, by name.

    Raises:
        RuntimeError: Ours and transformers' give different numbers with the same weights.
    """
    torch.manual_seed(0)
    longest, samples = max(lengths), len(lengths)
    ids = torch.randint(1, size.vocab_size, (samples, longest))
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    inside = mask[:, 1:].bool()
    ends = torch.tensor(lengths).cumsum(0)
    index = torch.repeat_interleave(torch.arange(samples), torch.tensor(lengths))[None]
    followed = torch.ones(int(ends[-1]), dtype=torch.bool).index_fill(0, ends - 1, False)
    packed = ids[mask.bool()][None]
    rows = ids[:ROWS]

    def ours_packed(model: LlamaForCausalLM) -> torch.Tensor:
        hidden, _ = model.model(model.model.embed_tokens(packed), packing=Packing.of(index))
        return torch.as_tensor(model.lm_head(hidden[0]))

    steps: dict[str, Callable[[], object]] = {}
    ours, theirs = _pair(size)
    with torch.no_grad():
        _agree(ours(rows), theirs(rows).logits, "whole rows")
        _agree(ours_packed(ours), theirs(ids, attention_mask=mask).logits[mask.bool()], "unequal lengths")
    steps["whole rows, ours"] = _step(ours, lambda m=ours: _loss(m(rows)[:, :-1], rows[:, 1:]))
    steps["whole rows, transformers"] = _step(theirs, lambda m=theirs: _loss(m(rows).logits[:, :-1], rows[:, 1:]))
    ours, theirs = _pair(size)
    nexts = packed[0].roll(-1)[followed]
    steps["unequal lengths, ours"] = _step(ours, lambda m=ours: _loss(ours_packed(m)[followed], nexts))
    steps["unequal lengths, transformers"] = _step(
        theirs,
        lambda m=theirs: _loss(m(ids, attention_mask=mask).logits[:, :-1][inside], ids[:, 1:][inside]),
    )
    ours, theirs = (each.eval() for each in _pair(size))
    prompt = ids[:1, :PROMPT]
    theirs.generation_config.eos_token_id = None

    def said() -> torch.Tensor:
        return torch.as_tensor(theirs.generate(prompt, max_new_tokens=NEW, do_sample=False))[:, PROMPT:]

    if not torch.equal(said(), ours.generate(prompt, NEW)):
        raise RuntimeError("ours and transformers' decoder say different tokens; time means nothing")
    steps["greedy decoding, ours"] = lambda m=ours: m.generate(prompt, NEW)
    steps["greedy decoding, transformers"] = said
    return steps


def measure(size: TextConfig = SIZE, lengths: tuple[int, ...] = LENGTHS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return CPU-seconds of each, and how many times ours transformers' takes, with intervals."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = interleaved(candidates(size, lengths), rounds)
    finally:
        torch.set_num_threads(threads)
    ratios = {}
    for what in RATIOS:
        ratio, low, high = ratio_of_medians(seconds[f"{what}, transformers"], seconds[f"{what}, ours"])
        ratios[what] = {"ratio": ratio, "interval_95": [low, high]}
    return {
        **surroundings(("torch", "transformers")),
        "size": size.model_dump(),
        "lengths": list(lengths),
        "rounds": rounds,
        "threads": 1,
        "cpu_seconds": {name: float(np.median(each)) for name, each in seconds.items()},
        "transformers / ours": ratios,
    }


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    lines = [f"{'':18} {'ours, CPU s':>12} {'transformers':>13} {'ratio':>6} {'95 % interval':>15}"]
    for what, ratio in result["transformers / ours"].items():
        mine, theirs = (result["cpu_seconds"][f"{what}, {whose}"] for whose in ("ours", "transformers"))
        low, high = ratio["interval_95"]
        lines.append(f"{what:18} {mine:12.3f} {theirs:13.3f} {ratio['ratio']:6.2f} {f'{low:.2f} to {high:.2f}':>15}")
    return "\n".join(lines)


def main(path: Path = RESULTS) -> None:
    """Measure, write the JSON, print the table."""
    result = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
