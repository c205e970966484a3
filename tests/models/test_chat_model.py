"""The chat model: what training and talking rely on. Its numbers are held against the official ones elsewhere."""

import weakref
from typing import Any

import pytest
import torch

from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig, TextConfig
from models.connectors import pixel_unshuffle
from models.qllama import LlamaForCausalLM
from models.sampling import Sampling


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> bool:
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


def test_unshuffling_takes_neighbours_and_v1_transposes() -> None:
    tokens = torch.arange(16.0).view(1, 16, 1)
    assert pixel_unshuffle(tokens, 2)[0].int().tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]
    assert pixel_unshuffle(tokens, 2, "v1")[0, 1].tolist() == [8, 9, 12, 13]
    assert torch.equal(pixel_unshuffle(tokens, 1), tokens)
    for count in (15, 9):
        with pytest.raises(ValueError, match="no square grid"):
            pixel_unshuffle(torch.zeros(1, count, 1), 2)


def small(**changes: Any) -> InternVLChat:
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2}
    text = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = {
        "vision": {**vision, "num_attention_heads": 2, "intermediate_size": 32, "initializer_factor": 1.0},
        "text": {**text, "num_attention_heads": 2},
        "image_context_token_id": 39,
        "eos_token_id": 2,
    }
    model = InternVLChat(ChatConfig.model_validate({**config, **changes})).eval()
    with torch.no_grad():  # as large as trained weights, so that greedy choices are not near-ties
        for parameter in model.language_model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
    return model


def test_a_grid_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="downsample_ratio"):
        small(downsample_ratio=0.4)
    with pytest.raises(ValueError, match="downsample_ratio"):
        small(downsample_ratio=1 / 3)


def test_pictures_and_their_places_must_agree() -> None:
    model, pixels = small(), torch.randn(2, 3, 16, 16)
    ids = torch.tensor([[5, *[39] * 4, 6, 7]])
    with pytest.raises(ValueError, match="4 context tokens for 8"):
        model.embed(ids, pixels)
    with pytest.raises(ValueError, match="4 context tokens for 0"):
        model.embed(ids)
    flagged = model.embed(ids, pixels, torch.tensor([[0], [1]]))
    assert torch.equal(flagged, model.embed(ids, pixels[1:]))
    assert torch.equal(flagged[0, 1:5], model.image_features(pixels[1:])[0])
    assert torch.equal(flagged[0, [0, 5, 6]], model.language_model.model.embed_tokens(ids[0, [0, 5, 6]]))


def test_only_labels_are_learned_and_padding_changes_nothing() -> None:
    model = small()
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    labels = torch.tensor([[IGNORE, IGNORE, 7, IGNORE, 9]])
    ones = torch.ones_like(ids)
    loss = model({"input_ids": ids, "attention_mask": ones, "labels": labels})["loss"]
    chances = model.logits(ids, ones).log_softmax(-1)
    assert loss.item() == pytest.approx(-(chances[0, 1, 7] + chances[0, 3, 9]).item() / 2, rel=1e-5)
    padded = {
        "input_ids": torch.cat([ids, torch.full((1, 3), 2)], dim=1),
        "attention_mask": torch.cat([ones, torch.zeros(1, 3, dtype=torch.long)], dim=1),
        "labels": torch.cat([labels, torch.full((1, 3), IGNORE)], dim=1),
    }
    assert model(padded)["loss"].item() == pytest.approx(loss.item(), rel=1e-5)


def test_losses_of_two_processes_average_to_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    ids = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
    labels = torch.tensor([[IGNORE, 6, 7, 8, 9], [IGNORE, IGNORE, IGNORE, IGNORE, 5]])
    whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    found = model(whole)
    each = found.pop("sample_loss")
    assert (each * torch.tensor([4, 1])).sum() / 5 == pytest.approx(found["loss"].item(), rel=1e-5)
    expected = {name: value.item() for name, value in found.items()}
    assert expected["loss"] != pytest.approx(model({k: v[1:] for k, v in whole.items()})["loss"].item(), rel=1e-3)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.fill_(5))
    shares = [model({k: v[row : row + 1] for k, v in whole.items()}) for row in (0, 1)]
    for name, value in expected.items():
        assert sum(share[name].item() for share in shares) / 2 == pytest.approx(value, rel=1e-5), name


def test_losses_of_micro_batches_add_up_to_that_of_the_step() -> None:
    model = small()
    ids = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
    labels = torch.tensor([[IGNORE, 6, 7, 8, 9], [IGNORE, IGNORE, IGNORE, IGNORE, 5]])
    whole = {"input_ids": ids, "labels": labels}
    weighed = {**whole, "loss_weights": torch.tensor([[0.1, 0.2, 0.3, 0.4], [2.0, 2.0, 2.0, 2.0]])}
    for batch in (whole, weighed):
        expected, totals = model(batch), model.counts(batch)
        parts = [model({k: v[row : row + 1] for k, v in batch.items()}, totals) for row in (0, 1)]
        for name in ("loss", "token_accuracy"):
            assert sum(part[name].item() for part in parts) == pytest.approx(expected[name].item(), rel=1e-5)
        assert torch.allclose(torch.cat([part["sample_loss"] for part in parts]), expected["sample_loss"])


def test_a_tile_that_stands_for_no_picture_runs_every_part_and_teaches_none() -> None:
    model, ids = small(), torch.tensor([[5, 6, 7, 8, 9]])
    batch = {"input_ids": ids, "labels": ids}
    alone = model(batch)["loss"]
    blank = {"pixel_values": torch.randn(1, 3, 16, 16), "image_flags": torch.zeros(1, dtype=torch.long)}
    shown = model({**batch, **blank})["loss"]
    assert torch.equal(alone, shown)
    shown.backward()
    # Processes that train together wait for gradients of all parts, also where a batch is text alone.
    seeing = [value for name, value in model.named_parameters() if name.startswith(("mlp1.", "vision_model."))]
    assert all(value.grad is not None and not value.grad.any() for value in seeing)


def test_blocks_are_dropped_tile_by_tile() -> None:
    vision = small().config.vision.model_copy(update={"drop_path_rate": 0.6, "num_hidden_layers": 4})
    model = small(vision=vision).train()
    tile = torch.randn(1, 3, 16, 16).expand(6, -1, -1, -1)
    noise = torch.tensor([7, 7, 1, 2, 3, 4])
    shown = model.image_features(tile, noise)
    assert torch.equal(shown[0], shown[1]), "the same bits, the same blocks"
    different = {tuple(each.flatten().tolist()) for each in shown}
    assert len(different) > 2, "tiles of one picture have fates of their own"
    alone = torch.cat([model.image_features(tile[:1], noise[row : row + 1]) for row in range(6)])
    assert torch.allclose(alone, shown, atol=1e-6)
    with pytest.raises(ValueError, match="needs `noise`"):
        model.image_features(tile)


def test_generation_is_the_argmax_of_the_whole_text_also_in_a_padded_batch() -> None:
    model, pixels = small(), torch.randn(2, 3, 16, 16)
    prompts = [[5, *[39] * 4, 6, 7, 8], [9, *[39] * 4, 11]]
    expected = []
    for prompt, picture in zip(prompts, pixels, strict=True):
        ids = list(prompt)
        for _ in range(6):
            now = torch.tensor([ids])
            ids.append(int(model.logits(now, torch.ones_like(now), picture[None])[0, -1].argmax()))
        expected.append(ids[len(prompt) :])
    batch = torch.tensor([prompts[0], [2, 2, *prompts[1]]])
    mask = torch.tensor([[1] * 8, [0] * 2 + [1] * 6])
    found = model.generate(batch, mask, pixels, max_new_tokens=6)
    assert found.tolist() == expected
    stop = expected[0][2]
    cut = model.generate(batch[:1], mask[:1], pixels[:1], max_new_tokens=6, stop=[stop])
    assert cut.tolist() == [expected[0][: expected[0].index(stop) + 1]]


def test_tokens_come_one_by_one_and_gradients_stay_the_callers() -> None:
    model = small()
    prompt = torch.tensor([[5, 6, 7]])
    stream = model.stream(prompt, torch.ones_like(prompt), max_new_tokens=5)
    found = []
    for token in stream:
        found.append(int(token))
        assert torch.is_grad_enabled() and not token.requires_grad
    assert found == model.generate(prompt, torch.ones_like(prompt), max_new_tokens=5)[0].tolist()


def test_drawn_answers_return_with_their_seed_and_narrow_down_to_the_greedy_one() -> None:
    model = small()
    prompt = torch.tensor([[5, 6, 7]])

    def answer(sampling: Sampling) -> list[int]:
        return list(model.generate(prompt, torch.ones_like(prompt), max_new_tokens=12, sampling=sampling)[0].tolist())

    greedy = answer(Sampling())
    hot = [answer(Sampling(temperature=3.0, seed=seed)) for seed in (0, 0, 1)]
    assert hot[0] == hot[1] != hot[2]
    assert answer(Sampling(temperature=3.0, top_p=1e-6)) == greedy == answer(Sampling(temperature=1e-4))
    assert hot[0] != greedy


def test_a_qwen2_shaped_decoder_says_what_transformers_says() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    theirs = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**shape, tie_word_embeddings=False)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours = LlamaForCausalLM(TextConfig.model_validate({**shape, "qkv_bias": True})).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ids = torch.tensor([[3, 9, 27, 5, 11, 8]])
    assert close(ours(ids), theirs(ids).logits, 1e-5)
    with torch.no_grad():
        ours.get_parameter("model.layers.0.self_attn.q_proj.bias").add_(0.1)
    assert not close(ours(ids), theirs(ids).logits, 1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_keys_of_a_layer_outlive_it_in_training(checkpointing: bool) -> None:
    model = small()
    model.language_model.model.gradient_checkpointing = checkpointing
    kept: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    for layer in model.language_model.model.layers:
        layer.register_forward_hook(lambda _, __, given: kept.append(weakref.ref(given[1][0])))
    model.language_model.lm_head.register_forward_hook(
        lambda *_: alive.append(sum(reference() is not None for reference in kept))
    )
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.set_grad_enabled(checkpointing):
        model({"input_ids": ids, "labels": ids})
    assert len(kept) == 2 and alive == [0]


def test_a_pass_keeps_the_one_hidden_state_that_is_shown() -> None:
    model, pixels = small(), torch.randn(2, 3, 16, 16)
    everything = model.vision_model(pixels).hidden_states
    for number in (-3, -1, 0, 1, 2):
        (found,) = model.vision_model(pixels, only=number).hidden_states
        assert torch.equal(found, everything[number])
