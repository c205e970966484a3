"""What a chat model is put together from: towers, tokens, positions, and what does not fit together."""

from pathlib import Path

import pytest
import torch
from test_instruct import prepared, same, small, workspace
from training_data import make_contrastive, make_language, tiny_tokenizer

from infra.storage import Store
from models.config import VisionConfig
from stages.chat_assembly import assemble, check_view, fit_embeddings, grow_tokenizer
from stages.checkpoints import fetch
from stages.manifest import ManifestError
from stages.weight_files import open_weights


def test_towers_come_from_their_checkpoints(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    found = assemble(small(), here)[0].state_dict()
    seen = open_weights(fetch(store, here.input("checkpoints/contrastive"), tmp_path / "c"))
    spoken = open_weights(fetch(store, here.input("checkpoints/language"), tmp_path / "l"))
    assert seen and all(same(value, found[name]) for name, value in seen.items())
    assert spoken and all(
        same(value, found[f"language_model.{name}"][: len(value)]) for name, value in spoken.items()
    )


def test_the_untrained_twin_differs_in_its_encoder_alone(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    torch.manual_seed(1)
    trained = assemble(small(), here)[0].state_dict()
    torch.manual_seed(1)
    other = assemble(small(untrained_vision=True), here)[0].state_dict()
    differ = {name for name, value in trained.items() if not same(value, other[name])}
    assert differ and all(name.startswith("vision_model.") for name in differ)


def test_what_the_encoder_cannot_show_is_refused_before_it_is_built() -> None:
    vision = VisionConfig(
        image_size=48,
        patch_size=24,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=8,
    )
    for fine in ({"select_layer": -3}, {"select_layer": 2}, {"image_size": 72}, {}):
        check_view(small(**fine), vision)
    for layer in (-4, 3):
        with pytest.raises(
            ManifestError, match=rf"select_layer is {layer} .* 3 hidden states; choose one from -3 to 2"
        ):
            check_view(small(select_layer=layer), vision)
    with pytest.raises(
        ManifestError, match=r"image_size 50 does not divide into .* patches of 24; choose a multiple"
    ):
        check_view(small(image_size=50), vision)


@pytest.mark.parametrize("wrong", [{"select_layer": 9}, {"image_size": 47}])
def test_the_stage_refuses_it_too(store: Store, tmp_path: Path, wrong: dict[str, int]) -> None:
    here = workspace(store, tmp_path, language=make_language(store), contrastive=make_contrastive(store))
    with pytest.raises(ManifestError, match=next(iter(wrong))):
        assemble(small(**wrong), here)


def test_conversations_longer_than_the_language_model_reads_are_refused(store: Store, tmp_path: Path) -> None:
    here = workspace(store, tmp_path, language=make_language(store), contrastive=make_contrastive(store))
    assemble(small(context_length=512), here)
    with pytest.raises(ManifestError, match=r"context_length is 513 .* max_position_embeddings 512 tokens; lower"):
        assemble(small(context_length=513), here)


def test_new_rows_are_the_mean_of_the_old_ones_and_old_rows_stay() -> None:
    torch.manual_seed(0)
    weights = {"model.embed_tokens.weight": torch.randn(5, 4), "lm_head.weight": torch.randn(5, 4)}
    grown = fit_embeddings(weights, 5, 8)
    for name, value in weights.items():
        assert grown[name].shape == (8, 4) and torch.equal(grown[name][:5], value)
    assert torch.allclose(grown["lm_head.weight"][5:], weights["lm_head.weight"].mean(0).expand(3, 4))
    assert not torch.allclose(grown["model.embed_tokens.weight"][5], grown["model.embed_tokens.weight"][6])
    assert fit_embeddings(weights, 5, 5) == weights


def test_rows_that_fill_a_table_up_become_tokens_or_go() -> None:
    torch.manual_seed(0)
    weights = {"model.embed_tokens.weight": torch.randn(9, 4), "lm_head.weight": torch.randn(9, 4)}
    given, head = weights["model.embed_tokens.weight"], weights["lm_head.weight"]
    fitted = fit_embeddings(weights, 5, 7)
    assert torch.equal(fitted["model.embed_tokens.weight"], given[:7])
    assert torch.equal(fitted["lm_head.weight"][:5], head[:5])
    assert torch.allclose(fitted["lm_head.weight"][5:], head[:5].mean(0).expand(2, 4))
    assert fit_embeddings(weights, 5, 5)["model.embed_tokens.weight"].shape == (5, 4)


def test_growing_a_tokenizer_twice_adds_nothing_and_marks_come_out_whole() -> None:
    tokenizer = tiny_tokenizer()
    before = tokenizer.get_vocab_size()
    grow_tokenizer(tokenizer, "Hermes-2")
    size = tokenizer.get_vocab_size()
    assert size == before + 11 + 3
    grow_tokenizer(tokenizer, "Hermes-2")
    assert tokenizer.get_vocab_size() == size
    ids = tokenizer.encode("<|im_start|>user\n<img><IMG_CONTEXT></img>", add_special_tokens=False).ids
    assert len(ids) == 6
    assert tokenizer.decode(tokenizer.encode("Wie groß?", add_special_tokens=False).ids) == "Wie groß?"


def test_a_larger_picture_size_interpolates_positions(store: Store, tmp_path: Path) -> None:
    here = prepared(store, tmp_path)
    chat, _ = assemble(small(image_size=64), here)
    assert chat.config.vision.image_size == 64 and chat.config.num_image_token == 16
    assert chat.image_features(torch.randn(1, 3, 64, 64)).shape == (1, 16, 32)
