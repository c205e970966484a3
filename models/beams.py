"""Beam search: several texts are written at once, and the likeliest of all that have ended is taken."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

NEVER = -1.0e9
"""The score of what is no candidate."""

Advance = Callable[[Int[Tensor, "rows written"], Int[Tensor, " rows"]], Float[Tensor, "rows vocabulary"]]
"""From what each row has written, and which row of the step before each one goes on from, to logits."""


def beam_search(
    logits: Float[Tensor, "batch vocabulary"],
    advance: Advance,
    *,
    beams: int,
    max_new_tokens: int,
    eos_token_id: int,
    min_new_tokens: int = 0,
) -> Int[Tensor, "batch new"]:
    """Return the best text of each prompt, ended rows filled with zeros.

    A text's score is its log probability per token, its end included. Ended texts enter where they are among the
    `beams` best, and a prompt is done when no running text is better, at its length of now, than the worst of as many
    ended ones: transformers' rules for `num_beams` with its other settings left alone, as the official captions were
    written.

    Args:
        logits: Of the first token, after each prompt.
        advance: Reads the newest tokens; a prompt has `beams` rows, one after the other.
        beams: Texts written at once for a prompt.
        max_new_tokens: Most tokens, the end included.
        eos_token_id: Ends a text.
        min_new_tokens: No text ends before it has as many tokens.
    """
    batch, vocabulary, device = len(logits), logits.shape[1], logits.device
    offsets = torch.arange(batch, device=device)[:, None]
    running = torch.full((batch, beams), NEVER, device=device)
    running[:, 0] = 0  # All beams begin alike, and the same text is not wanted several times.
    written = torch.zeros(batch, beams, 0, dtype=torch.long, device=device)
    scores = torch.full((batch, beams), NEVER, device=device)
    ended = torch.zeros(batch, beams, dtype=torch.bool, device=device)
    done = torch.zeros(batch, max_new_tokens, dtype=torch.long, device=device)[:, None].repeat(1, beams, 1)
    open_ = torch.ones(batch, 1, dtype=torch.bool, device=device)
    table = logits[:, None].expand(-1, beams, -1)
    for length in range(1, max_new_tokens + 1):
        likely = F.log_softmax(table.float(), dim=-1)
        if length <= min_new_tokens:
            likely[..., eos_token_id] = -torch.inf
        # Twice as many as beams: should all of the best end here, there are others to go on with.
        values, places = (running[..., None] + likely).flatten(1).topk(2 * beams, dim=1)
        parents, tokens = places // vocabulary, places % vocabulary
        texts = torch.cat([written[offsets, parents], tokens[..., None]], dim=2)
        ends = (tokens == eos_token_id) | (length == max_new_tokens)

        entering = ends.clone()
        entering[:, beams:] = False
        merged = torch.cat([scores, (values / length).masked_fill(~(entering & open_), NEVER)], dim=1)
        scores, best = merged.topk(beams, dim=1)
        ended = torch.cat([ended, entering & open_], dim=1)[offsets, best]
        done = torch.cat([done, F.pad(texts, (0, max_new_tokens - length))], dim=1)[offsets, best]

        running, kept = values.masked_fill(ends, NEVER).topk(beams, dim=1)
        written, parents = texts[offsets, kept], parents[offsets, kept]
        worst = torch.where(ended.any(dim=1, keepdim=True), scores.min(dim=1, keepdim=True).values, NEVER)
        open_ = open_ & (running[:, :1] / length > worst)
        if length == max_new_tokens or not bool(open_.any()):
            break
        order = (parents + beams * offsets).flatten()
        table = advance(written.flatten(0, 1), order).unflatten(0, (batch, beams))
    longest = int((done[:, 0] != 0).any(dim=0).nonzero().max()) + 1
    return done[:, 0, :longest]
