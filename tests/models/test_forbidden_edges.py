"""Every edge of the mask tables of ITC, ITM and ITG, felt: whoever may not see a change does not move by a bit."""

import pytest
import torch
from generative_world import make_model
from torch import Tensor

from models.internvl import InternVL
from models.plain_generative import Task, who_sees_whom

WORDS, REAL = 4, 3
"""Words of the text; the last is padding."""


def felt(before: Tensor, after: Tensor) -> list[bool]:
    """Return which positions differ in a single bit, padding left out: nobody reads it."""
    return (before != after).any(dim=-1)[0].tolist()[: -(WORDS - REAL)]


def one_pass(model: InternVL, task: Task, embedded: Tensor, vision: Tensor) -> Tensor:
    queries = model.config.num_query_token
    seen = who_sees_whom(task, torch.tensor([[1] * REAL + [0] * (WORDS - REAL)]), queries)
    return torch.as_tensor(model.qllama.model(embedded, seen, vision=vision, queries=queries)[0])


def shared_pass(model: InternVL, task: Task, embedded: Tensor, vision: Tensor) -> Tensor:
    """Do the same with what the fast objective calls: text vectors alone, captions after the queries' own pass."""
    queries, ids = model.config.num_query_token, torch.arange(WORDS)[None]
    model.query_tokens.data = embedded[:, :queries].clone()
    model.qllama.model.embed_tokens.weight.data[:WORDS] = embedded[0, queries:]
    hidden, cache = model.ask(vision)
    return torch.cat([hidden, model.read_on(cache, ids, torch.tensor([[1] * REAL + [0] * (WORDS - REAL)]))], dim=1)


@pytest.mark.parametrize(
    ("passes", "task"),
    [(one_pass, "matching"), (one_pass, "contrast"), (one_pass, "captioning"), (shared_pass, "captioning")],
)
def test_a_change_is_felt_by_those_who_may_see_it_and_by_nobody_else(passes: object, task: Task) -> None:
    assert callable(passes)
    model, random = make_model(), torch.Generator().manual_seed(1)
    queries, width = model.config.num_query_token, model.config.text.hidden_size
    vision = model.see(torch.randn(1, 3, 16, 16, generator=random)).detach()
    embedded = torch.randn(1, queries + WORDS, width, generator=random)
    table = who_sees_whom(task, torch.tensor([[1] * REAL + [0] * (WORDS - REAL)]), queries)[0, 0]
    with torch.no_grad():
        before = passes(model, task, embedded, vision)
        for place in range(queries + WORDS):
            changed = embedded.clone()
            changed[0, place] += 1.0
            # Who sees whom is closed under going through a third: what a table forbids, no detour brings.
            expected = table[: queries + REAL, place].tolist()
            assert felt(before, passes(model, task, changed, vision)) == expected, place
