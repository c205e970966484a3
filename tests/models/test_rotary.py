"""Stretched rotary positions and the sliding window say what transformers says, for short texts and for long ones."""

import math
from typing import Any

import pytest
import torch
from decoder_configs import HALF, LLAMA, LONG_FACTOR, ORIGINAL, PHI3, SCALED, SHORT_FACTOR, SU, phi3_config
from transformers import LlamaConfig, Phi3ForCausalLM
from transformers import LlamaForCausalLM as TheirLlama
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from models.chat import InternVLChat
from models.config import ChatConfig, VisionConfig
from models.official_config import text_of
from models.packing import Packing
from models.phi3_names import llama_from_phi3
from models.qllama import LlamaForCausalLM, causal_mask
from models.renaming import fill
from models.rope import LongRope
from models.rotary import attention_factor, frequencies, rotary

TEXTS = {"short": ORIGINAL, "one more": ORIGINAL + 1, "long": 40}


def shaken(model: Any) -> Any:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def phi3(**changes: Any) -> tuple[LlamaForCausalLM, Any]:
    """Return ours and transformers' Phi-3 with the same weights, both made from an official configuration."""
    torch.manual_seed(7)
    fields = {**PHI3, **changes}
    theirs = shaken(Phi3ForCausalLM(phi3_config(fields)))
    ours = LlamaForCausalLM(text_of(fields)).eval()
    fill(ours, llama_from_phi3(theirs.state_dict()), "Phi-3")
    return ours, theirs


def text(tokens: int, rows: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 39, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.float() - wanted.float()).abs().max() / wanted.float().abs().max())


@pytest.mark.parametrize("tokens", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("window", [262144, 7, None], ids=lambda each: f"window {each}")
def test_phi3_with_longrope_says_what_transformers_says(tokens: int, window: int | None) -> None:
    ours, theirs = phi3(sliding_window=window)
    ids = text(tokens, rows=2)
    with torch.no_grad():
        assert error(ours(ids), theirs(ids).logits) <= 1e-5
        exact = ours(ids)
        turns = theirs.model.rotary_emb
        theirs.bfloat16().model.rotary_emb = type(turns)(theirs.config)  # as from_pretrained leaves it, in fp32
        half, wanted = ours.bfloat16()(ids), theirs(ids).logits
    assert half.dtype == wanted.dtype == torch.bfloat16
    # Where this was written the two are equal to the bit, and each is some percent off what fp32 gives.
    assert error(half, wanted) <= 0.2 * error(wanted, exact)


def test_short_and_long_texts_are_turned_by_different_factors() -> None:
    ours, _ = phi3()
    ids = text(ORIGINAL + 1)
    with torch.no_grad():
        cut, whole = ours(ids[:, :-1]), ours(ids)[:, :-1]
    assert error(cut, whole) > 1e-2
    turned = [frequencies(ours.config, torch.tensor([[tokens]])) for tokens in (ORIGINAL, ORIGINAL + 1)]
    for found, factors in zip(turned, (SHORT_FACTOR, LONG_FACTOR), strict=True):
        plain = torch.tensor([1e4 ** (-number / HALF) for number in range(HALF)])
        assert torch.allclose(found[0, 0] * torch.tensor(factors), plain)
    assert attention_factor(ours.config) == pytest.approx(math.sqrt(1 + math.log(96 / ORIGINAL) / math.log(ORIGINAL)))


@pytest.mark.parametrize(
    "extra", [{"attention_factor": 1.7}, {"factor": 3.0}, {"factor": 1.0}], ids=lambda each: next(iter(each))
)
def test_a_configuration_may_say_the_factor_itself(extra: dict[str, float]) -> None:
    ours, theirs = phi3(rope_scaling={**SU, "type": "longrope", **extra})
    ids = text(20)
    with torch.no_grad():
        assert error(ours(ids), theirs(ids).logits) <= 1e-5


@pytest.mark.parametrize("tokens", [4096, 4097, 131072])
def test_angles_of_published_lengths_are_those_of_transformers_to_the_bit(tokens: int) -> None:
    lists = {name: [1 + rise * number for number in range(48)] for name, rise in (("short", 0.01), ("long", 0.7))}
    size = {"hidden_size": 3072, "num_attention_heads": 32, "num_key_value_heads": 32}
    scaling = {"type": "su", **{f"{name}_factor": factors for name, factors in lists.items()}}
    fields = {
        **PHI3, **size, "rope_scaling": scaling, "original_max_position_embeddings": 4096,
        "max_position_embeddings": 131072,
    }  # fmt: skip
    positions = torch.tensor([[0, 1, tokens // 2, tokens - 1]])
    wanted = Phi3RotaryEmbedding(phi3_config(fields))(torch.zeros(1), positions)
    found = rotary(text_of(fields), positions, torch.tensor([[tokens]]))
    plain = {**LLAMA, **size, "rope_theta": 1e6}
    wanted += LlamaRotaryEmbedding(LlamaConfig(**plain))(torch.zeros(1), positions)
    found += rotary(text_of(plain), positions, torch.tensor([[tokens]]))
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours[:, 0], theirs)


@pytest.mark.parametrize("window", [262144, 9], ids=lambda each: f"window {each}")
@pytest.mark.parametrize("prompt", [4, ORIGINAL, ORIGINAL + 1, 20])
def test_greedy_tokens_are_those_of_transformers_also_past_the_original_length(prompt: int, window: int) -> None:
    ours, theirs = phi3(sliding_window=window)
    ids = text(prompt, seed=prompt)
    wanted = theirs.generate(ids, max_new_tokens=16, do_sample=False, pad_token_id=0)[0, prompt:].tolist()
    found = ours.generate(ids, 16, eos_token_id=39)[0].tolist()
    assert found == wanted and len(set(found)) > 2
    alone = list(ids[0].tolist())
    with torch.no_grad():
        for _ in found:  # without a cache
            alone.append(int(ours(torch.tensor([alone]))[0, -1].argmax()))
    assert alone[prompt:] == found


def test_a_cache_of_the_short_factors_is_not_gone_on_with() -> None:
    ours, _ = phi3()
    embedded = ours.model.embed_tokens(text(ORIGINAL + 2))
    with torch.no_grad():
        _, cache = ours.model(embedded[:, : ORIGINAL - 1])
        hidden, cache = ours.model(embedded[:, ORIGINAL - 1 : ORIGINAL], past=cache)
        assert error(hidden[0, -1], ours.model(embedded[:, :ORIGINAL])[0][0, -1]) <= 1e-5
        with pytest.raises(
            ValueError, match=r"13 tokens .*original_max_position_embeddings.*read the whole text anew"
        ):
            ours.model(embedded[:, ORIGINAL:-1], past=cache)
        # Several tokens at once, in the long regime, see no token that comes after them.
        _, cache = ours.model(ours.model.embed_tokens(text(20))[:, :15])
        several, _ = ours.model(ours.model.embed_tokens(text(20))[:, 15:], past=cache)
        assert error(several, ours.model(ours.model.embed_tokens(text(20)))[0][:, 15:]) <= 1e-5


def test_packed_samples_are_turned_by_their_own_lengths() -> None:
    ours, theirs = phi3(sliding_window=9)
    lengths = [ORIGINAL, 23, 5, ORIGINAL + 1]
    samples = [text(length, seed=length) for length in lengths]
    index = torch.tensor([[number for number, length in enumerate(lengths) for _ in range(length)]])
    with torch.no_grad():
        packed = ours.model(ours.model.embed_tokens(torch.cat(samples, dim=1)), packing=Packing.of(index))[0]
        for number, sample in enumerate(samples):
            own = ours.lm_head(packed[index == number])
            assert error(own, ours(sample)[0]) <= 1e-5 and error(own, theirs(sample).logits[0]) <= 1e-5
        # In one call transformers goes by the longest, so that its short samples get other numbers.
        together = theirs(torch.cat(samples, dim=1), position_ids=Packing.of(index).positions, use_cache=False).logits
        for number, length in enumerate(lengths):
            off = error(ours.lm_head(packed[index == number]), together[index == number])
            assert off <= 1e-5 if length > ORIGINAL else off > 1e-2
        # A neighbour that grows past the border leaves the others as they were, to the bit.
        longer = torch.cat([*samples[:3], text(20, seed=9)], dim=1)
        more = torch.tensor([[*index[0].tolist(), *[3] * (20 - lengths[3])]])
        again = ours.model(ours.model.embed_tokens(longer), packing=Packing.of(more))[0]
    assert torch.equal(again[:, : sum(lengths[:3])], packed[:, : sum(lengths[:3])])


@pytest.mark.parametrize("window", [262144, 5], ids=lambda each: f"window {each}")
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_counts_in_an_unpacked_row_as_in_transformers(side: str, window: int) -> None:
    ours, theirs = phi3(sliding_window=window)
    ids = text(ORIGINAL + 4, rows=2)
    hidden = slice(8, None) if side == "right" else slice(None, -8)
    mask = torch.ones_like(ids).index_fill(1, torch.arange(ids.shape[1])[hidden], 0)
    mask[0] = 1
    with torch.no_grad():
        found, wanted = ours(ids, mask), theirs(ids, attention_mask=mask).logits
        assert error(found[mask == 1], wanted[mask == 1]) <= 1e-5
        alone = ours(ids[1:, mask[1] == 1])[0]
    assert error(found[1, mask[1] == 1], alone) > 1e-2, "eight tokens alone are a short text"


@pytest.mark.parametrize("scaling", SCALED.values(), ids=SCALED.keys())
def test_linear_and_dynamic_scaling_are_those_of_transformers(scaling: dict[str, Any]) -> None:
    ours = shaken(
        LlamaForCausalLM(text_of({**LLAMA, "architectures": ["InternLM2ForCausalLM"], "rope_scaling": scaling}))
    )
    plain = LlamaForCausalLM(text_of(LLAMA)).eval()
    plain.load_state_dict(ours.state_dict())
    for tokens in (9, 16, 17, 40):
        # A new one each time: theirs keeps the base of the longest text it has met, ours forgets.
        theirs = TheirLlama(
            LlamaConfig(**{k: v for k, v in LLAMA.items() if k != "architectures"}, rope_scaling=scaling)
        )
        theirs.load_state_dict(ours.state_dict())
        ids = text(tokens)
        with torch.no_grad():
            wanted = theirs.eval()(ids).logits
            assert error(ours(ids), wanted) <= 1e-5
            assert (error(plain(ids), wanted) > 1e-3) is (tokens > 16 or "linear" in scaling.values())
    ids = text(12, seed=3)
    said = theirs.generate(ids, max_new_tokens=14, do_sample=False, pad_token_id=0, eos_token_id=None)[0, 12:]
    assert ours.generate(ids, 14)[0].tolist() == said.tolist()


def test_a_chat_reads_its_text_anew_where_it_grows_long_also_in_a_padded_batch() -> None:
    vision = VisionConfig(
        image_size=16, patch_size=4, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config = ChatConfig(vision=vision, text=text_of(PHI3), image_context_token_id=39, eos_token_id=2)
    assert isinstance(config.text.rope_scaling, LongRope)
    torch.manual_seed(7)
    model = shaken(InternVLChat(config))
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    prompts = [[5, *[39] * 4, 6, 7, 8], [9, *[39] * 4, 11]]
    batch, mask = torch.tensor([prompts[0], [2, 2, *prompts[1]]]), torch.tensor([[1] * 8, [0] * 2 + [1] * 6])
    found = model.generate(batch, mask, pixels, max_new_tokens=10)
    with torch.no_grad():
        embedded, seen = model.embed(batch, pixels), mask
        for place in range(10):  # the whole row again for each token
            hidden, _ = model.language_model.model(embedded, causal_mask(seen))
            token = model.language_model.lm_head(hidden[:, -1]).argmax(dim=-1)
            assert token.tolist() == found[:, place].tolist()
            embedded = torch.cat([embedded, model.language_model.model.embed_tokens(token[:, None])], dim=1)
            seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
    assert embedded.shape[1] > ORIGINAL + 1 and len(set(found[0].tolist())) > 2
    one = model.generate(batch[:1], mask[:1], pixels[:1], max_new_tokens=10)
    assert one.tolist() == found[:1].tolist()
