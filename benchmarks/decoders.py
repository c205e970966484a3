"""Our decoder beside transformers' LlamaForCausalLM, of equal size and with the same weights.

A train step is forward, next-token loss, backward and a fused AdamW; fp32, one thread. Samples of unequal length
come in rows padded to the longest for transformers, and packed without padding for ours; then for both. Decoding
is greedy, each by its own loop over a cache. All must say the same before they are timed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig
from transformers import LlamaForCausalLM as TheirLlama

from benchmarks.timing import interleaved, publish, ratio_of_medians, surroundings
from models.config import TextConfig
from models.native_config import decoder_config
from models.packing import Packing
from models.qllama import LlamaForCausalLM

SIZE = TextConfig(vocab_size=2048, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4)
LENGTHS = (160, 24, 96, 40, 64, 128)
"""Tokens of the samples of unequal length."""
ROWS, ROUNDS, PROMPT, NEW = 4, 20, 32, 32
RESULTS = Path(__file__).parent / "results" / "decoders.json"
WITHOUT = "whole rows, without oneDNN"
"""Ours through the same matrix products as transformers': what is left is the class's own."""
PACKED = "unequal lengths, both packed"
RATIOS = {
    "whole rows": ("whole rows, transformers", "whole rows, ours"),
    WITHOUT: ("whole rows, transformers", f"{WITHOUT}, ours"),
    "unequal lengths": ("unequal lengths, transformers", "unequal lengths, ours"),
    PACKED: (f"{PACKED}, transformers", "unequal lengths, ours"),
    "greedy decoding": ("greedy decoding, transformers", "greedy decoding, ours"),
}
"""What is compared with what, by name."""


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
    theirs.config.use_cache = False  # nobody trains with one; decoding turns it on again
    return ours.train(), theirs.train()


def _agree(found: torch.Tensor, wanted: torch.Tensor, what: str) -> None:
    if (found - wanted).abs().max() > 1e-5 * wanted.abs().max():
        raise RuntimeError(
            f"ours and transformers' decoder differ with the same weights in {what}; time means nothing"
        )


def whole_rows(size: TextConfig, ids: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return train steps on rows without padding.

    Raises:
        RuntimeError: Ours and transformers' give different numbers with the same weights.
    """
    ours, theirs = _pair(size)
    again, _ = _pair(size)
    with torch.no_grad():
        _agree(ours(ids), theirs(ids).logits, "whole rows")
    plain = _step(again, lambda: _loss(again(ids)[:, :-1], ids[:, 1:]))

    def without_onednn() -> None:
        with torch.backends.mkldnn.flags(enabled=False):
            plain()

    native = _step(theirs, lambda: _loss(theirs(ids).logits[:, :-1], ids[:, 1:]))
    return {
        "whole rows, ours": _step(ours, lambda: _loss(ours(ids)[:, :-1], ids[:, 1:])),
        "whole rows, transformers": native,
        f"{WITHOUT}, ours": without_onednn,
    }


def unequal_lengths(size: TextConfig, ids: torch.Tensor, lengths: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return train steps on samples of unequal length: packed for ours, padded and packed for transformers.

    Raises:
        RuntimeError: As above.
    """
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    index = torch.repeat_interleave(torch.arange(len(lengths)), lengths)[None]
    packed = ids[mask][None]
    followed = torch.ones(packed.shape[1], dtype=torch.bool).index_fill(0, lengths.cumsum(0) - 1, False)
    positions = Packing.of(index).positions
    ours, theirs = _pair(size)
    _, packing = _pair(size)

    def say() -> torch.Tensor:
        hidden, _ = ours.model(ours.model.embed_tokens(packed), packing=Packing.of(index))
        return torch.as_tensor(ours.lm_head(hidden[0]))

    def natively() -> torch.Tensor:
        return torch.as_tensor(theirs(ids, attention_mask=mask.long()).logits)

    def natively_packed() -> torch.Tensor:  # positions that begin anew tell it the samples
        return torch.as_tensor(packing(packed, position_ids=positions).logits[0])

    with torch.no_grad():
        _agree(say(), natively()[mask], "unequal lengths")
        packing.load_state_dict(ours.state_dict())
        _agree(say(), natively_packed(), "packed rows")
    wanted, inside = packed[0].roll(-1)[followed], mask[:, 1:]
    return {
        "unequal lengths, ours": _step(ours, lambda: _loss(say()[followed], wanted)),
        "unequal lengths, transformers": _step(theirs, lambda: _loss(natively()[:, :-1][inside], ids[:, 1:][inside])),
        f"{PACKED}, transformers": _step(packing, lambda: _loss(natively_packed()[followed], wanted)),
    }


def greedy_decoding(size: TextConfig, prompt: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return the writing of NEW tokens.

    Raises:
        RuntimeError: The two write different ones.
    """
    ours, theirs = _pair(size)
    theirs.eval().generation_config.eos_token_id = None
    theirs.generation_config.use_cache = theirs.config.use_cache = True

    def natively() -> torch.Tensor:
        said = theirs.generate(prompt, max_new_tokens=NEW, do_sample=False)
        return torch.as_tensor(said[:, prompt.shape[1] :])

    def say() -> torch.Tensor:
        return ours.generate(prompt, NEW)

    if not torch.equal(say(), natively()):
        raise RuntimeError("ours and transformers' decoder say different tokens; time means nothing")
    return {"greedy decoding, ours": say, "greedy decoding, transformers": natively}


def candidates(size: TextConfig, lengths: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """Return all that is compared, by name."""
    torch.manual_seed(0)
    ids = torch.randint(1, size.vocab_size, (len(lengths), max(lengths)))
    return {
        **whole_rows(size, ids[:ROWS]),
        **unequal_lengths(size, ids, torch.tensor(lengths)),
        **greedy_decoding(size, ids[:1, :PROMPT]),
    }


def measure(size: TextConfig = SIZE, lengths: tuple[int, ...] = LENGTHS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return CPU-seconds of each, and how many times ours transformers' takes, with intervals."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = interleaved(candidates(size, lengths), rounds)
    finally:
        torch.set_num_threads(threads)
    ratios = {}
    for what, (native, ours) in RATIOS.items():
        ratio, low, high = ratio_of_medians(seconds[native], seconds[ours])
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
    lines = [f"{'':28} {'ours, CPU s':>12} {'transformers / ours':>20} {'95 % interval':>15}"]
    for what, ratio in result["transformers / ours"].items():
        seconds = result["cpu_seconds"][RATIOS[what][1]]
        low, high = ratio["interval_95"]
        lines.append(f"{what:28} {seconds:12.3f} {ratio['ratio']:20.2f} {f'{low:.2f} to {high:.2f}':>15}")
    return "\n".join(lines)


def main(path: Path = RESULTS) -> None:
    """Measure, write the JSON, print the table."""
    result = measure()
    publish(result, table(result), path)


if __name__ == "__main__":
    main()
