"""InternVL-C and -G: who may see whom in QLLaMA, and what training relies on; with recorded weights and inputs."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from models.internvl import InternVL
from models.losses import caption_losses, labelled
from models.official_config import internvl_of
from models.renaming import WeightsError, below
from stages.parity import read_recording

PARITY = Path(__file__).parents[1] / "parity"
Tensors = dict[str, torch.Tensor]


def load() -> tuple[InternVL, Tensors]:
    facts, data = read_recording(PARITY, "internvl_stage2")
    return InternVL.from_state(internvl_of(facts), below(data, "w.")).eval(), data


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


def stage2_batch(model: InternVL, data: Tensors) -> Tensors:
    """Return the recorded batch: wrong captions for the first half of the pictures, right ones for the second."""
    half = data["pixel_values"].shape[0] // 2

    def judged(name: str) -> torch.Tensor:
        return torch.cat([data[f"negative_{name}"][:-half], data[f"positive_{name}"][-half:]])

    with torch.no_grad():
        vision = model.see(data["pixel_values"])
        text = model.encode_text(data["summarize_input_ids"], data["summarize_attention_mask"])
    return {
        "vision": vision,
        "text_features": text,
        "itm_input_ids": judged("input_ids"),
        "itm_attention_mask": judged("attention_mask"),
        "itm_labels": (torch.arange(len(vision)) >= len(vision) - half).long(),
        "itg_input_ids": data["input_ids"],
        "itg_attention_mask": data["attention_mask"],
        "itg_labels": data["labels"],
    }


def test_the_shared_query_pass_equals_a_pass_of_its_own() -> None:
    model, data = load()
    batch = stage2_batch(model, data)
    ids, mask, labels = (batch[f"itg_{name}"] for name in ("input_ids", "attention_mask", "labels"))

    def mean(logits: torch.Tensor) -> torch.Tensor:
        return caption_losses(logits, labels).sum() / labelled(labels).sum()

    def plain() -> torch.Tensor:
        """Return the caption loss of [queries][caption] as one sequence, as section 3.3 draws it."""
        queries = model.query_tokens.expand(len(ids), -1, -1)
        count, tokens = queries.shape[1], queries.shape[1] + ids.shape[1]
        seen = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        seen[:count, :count] = True
        valid = torch.cat([torch.ones(len(ids), count), mask], dim=1).bool()
        whole = (seen[None] & valid[:, None] | torch.eye(tokens, dtype=torch.bool))[:, None]
        embedded = torch.cat([queries, model.qllama.model.embed_tokens(ids)], dim=1)
        hidden, _ = model.qllama.model(embedded, whole, vision=batch["vision"], queries=count)
        return mean(model.qllama.lm_head(hidden[:, count:]))

    gradients = []
    shared = mean(model.describe(model.ask(batch["vision"])[1], ids, mask))
    for loss in (shared, plain()):
        model.zero_grad()
        loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert close(shared.detach(), plain().detach(), 1e-6)
    # The last layer's cross-attention serves the contrast alone: text looks at keys and values before it.
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert (gradient - gradients[1][name]).abs().max() <= 1e-5 * max(1e-3, gradient.abs().max()), name


def test_who_may_see_whom() -> None:
    model, data = load()
    batch = stage2_batch(model, data)
    vision, ids = batch["vision"], data["input_ids"][1:2]
    everyone = torch.ones_like(ids)
    changed = ids.clone()
    changed[0, 5] = (ids[0, 5] + 1) % 90
    with torch.no_grad():
        _, cache = model.ask(vision[1:2])
        before, after = (model.describe(cache, each, everyone) for each in (ids, changed))
        assert torch.equal(before[:, :5], after[:, :5]), "a caption is written from left to right"
        assert not torch.equal(before[:, 5:], after[:, 5:])
        other = model.describe(model.ask(vision[2:3])[1], ids, everyone)
        assert not torch.equal(before, other), "a caption sees what the queries saw"
        judged, otherwise = (model.match(vision[1:2], each, everyone) for each in (ids, changed))
        assert not torch.equal(judged, otherwise), "matching sees the whole caption"
        short = everyone.clone()
        short[0, 5:] = 0
        assert torch.equal(model.match(vision[1:2], ids, short), model.match(vision[1:2], changed, short))


def test_padding_changes_no_vector_and_no_verdict() -> None:
    model, data = load()
    ids = data["summarize_input_ids"][:1]
    length = int(data["summarize_attention_mask"][0].sum())
    longer = F.pad(ids[:, :length], (0, 7), value=5)
    mask = (torch.arange(longer.shape[1]) < length).long()[None]
    with torch.no_grad():
        vision = model.see(data["pixel_values"][:1])
        bare = ids[:, :length]
        assert close(model.encode_text(longer, mask), model.encode_text(bare, torch.ones_like(bare)), 1e-6)
        assert close(model.match(vision, longer, mask), model.match(vision, bare, torch.ones_like(bare)), 1e-5)


@pytest.mark.parametrize("lengths", [[3, 9, 5, 5, 1, 9, 2], [9, 9, 9, 8, 9, 9, 9]])
def test_unpadded_text_gives_the_vectors_and_gradients_of_padded_text(lengths: list[int]) -> None:
    torch.manual_seed(0)
    model, _ = load()
    ids, mask = torch.zeros(7, 9, dtype=torch.long), torch.zeros(7, 9, dtype=torch.long)
    for row, seen, length in zip(ids, mask, lengths, strict=True):
        row[:length], seen[:length] = torch.randint(3, model.config.text.vocab_size, (length,)), 1

    def padded() -> torch.Tensor:
        hidden, _ = model.qllama.model(model.qllama.model.embed_tokens(ids))
        return F.normalize(hidden[torch.arange(7), mask.sum(1) - 1] @ model.text_projection, dim=-1)

    found = []
    for encode in (padded, lambda: model.encode_text(ids, mask)):
        model.zero_grad()
        vectors = encode()
        (vectors * torch.linspace(-1, 1, vectors.numel()).view_as(vectors)).sum().backward()
        found.append((vectors.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (wanted, gradients), (ours, same) = found
    assert torch.allclose(ours, wanted, atol=1e-5) and gradients.keys() == same.keys()
    assert "text_projection" in same and "qllama.model.embed_tokens.weight" in same
    for name, gradient in gradients.items():
        assert torch.allclose(same[name], gradient, atol=1e-5), name


def test_internvl_c_has_no_query_and_its_weights_begin_internvl_g() -> None:
    whole, _ = load()
    bare = InternVL(whole.config, generative=False)
    names, more = set(bare.state_dict()), set(whole.state_dict())
    assert names < more
    assert {name.partition(".")[0] for name in more - names} == {
        "query_tokens",
        "clip_projector2",
        "itm_head",
        "qllama",
    }
    assert all(".cross_attn." in name for name in more - names if name.startswith("qllama"))
    again = InternVL.from_state(whole.config, {name: whole.state_dict()[name] for name in names})
    assert not again.generative
    with pytest.raises(WeightsError, match="clip_projector"):
        InternVL.from_state(whole.config, {n: v for n, v in whole.state_dict().items() if "clip_projector." not in n})
