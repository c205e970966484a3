"""The checker: passes what the official code recorded and what we record anew, and notices whatever is off."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import Phi3Config, Phi3ForCausalLM

from models import counting
from models.chat import IGNORE, InternVLChat
from models.config import INTERN_VIT_300M_448, ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.official_config import text_of
from models.parity import check_chat, check_stage2, check_vision
from models.plain_generative import PlainGenerativeObjective
from models.recording import Line, relative_error
from models.shapes import check_shapes
from models.sizes import SIZES
from models.weights import chat_to_official
from stages.parity import check_file, check_folder, check_prompts, check_tiling, read_json, read_recording

PARITY = Path(__file__).parents[1] / "parity"
CHECKS = {"intern_vit_6b_style": check_vision, "internvl_stage2": check_stage2}
CHECKS |= {f"internvl_chat_{name}": check_chat for name in ("llama_psv2_layer-1", "internlm2_psv2_layer-1")}
INPUTS = ("input_ids", "attention_mask", "labels", "pixel_values")


def failed(lines: list[Line]) -> set[str]:
    return {line.what for line in lines if not line.passed}


@pytest.mark.parametrize("name", sorted(path.name for path in PARITY.glob("*.json")))
def test_every_official_recording_is_met(name: str) -> None:
    checked = check_file(PARITY / name)
    assert checked.passed, [line for line in checked.lines if not line.passed]


def test_every_recorded_output_and_gradient_has_a_line() -> None:
    for name, check in CHECKS.items():
        facts, tensors = read_recording(PARITY, name)
        lines = {line.what for line in check(facts, tensors)}
        recorded = {each for each in tensors if not each.startswith("w.") and not each.endswith(INPUTS)}
        assert recorded <= lines, name


CHATS = sorted(path.stem for path in PARITY.glob("internvl_chat_*.json"))


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_step_is_met_whole_in_micro_batches_and_packed(name: str) -> None:
    facts, tensors = read_recording(PARITY, name)
    found: dict[str, set[str]] = {}
    for line in check_chat(facts, tensors):
        if line.what == "loss" or line.what.startswith("grad."):
            assert line.passed, line
            found.setdefault(line.what, set()).add(line.note)
    recorded = {each for each in tensors if each.startswith("grad.")}
    assert set(found) == {"loss", *recorded} and len(recorded) > 1
    ways = {"the whole batch", "a micro batch for each sample", "packed into one row"}
    assert found["loss"] == ways
    assert all(len(notes) == 3 for notes in found.values()), "each gradient in each way"
    # Where nothing tells whose tiles they are, the batch is one step.
    alone = {**facts, "tiles_per_sample": []}
    assert {line.note for line in check_chat(alone, tensors) if line.what == "loss"} == {"the whole batch"}


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_each_output_and_gradient_that_is_off_is_named(name: str) -> None:
    facts, tensors = read_recording(PARITY, name)
    outputs = [each for each in tensors if not each.startswith("w.") and not each.endswith(INPUTS)]
    for each in outputs:
        value = tensors[each]
        tolerance = 1e-4 if each.startswith("grad.") else 1e-5
        step = value.abs().max() * (2 * tolerance) if value.is_floating_point() else 1
        changed = value.clone()
        # The largest place is read in every output; a place behind padding is not.
        place = int(changed.abs().argmax()) if not each.endswith("_ids") else changed.numel() - 1
        changed.view(-1)[place] += step if changed.view(-1)[place] >= 0 else -step
        assert failed(CHECKS[name](facts, {**tensors, each: changed})) == {each}
    first = next(each for each in outputs if tensors[each].ndim > 1 and tensors[each].is_floating_point())
    cut = failed(CHECKS[name](facts, {**tensors, first: tensors[first][:, 1:]}))
    assert first in cut
    odd = {**tensors, first: torch.full_like(tensors[first], float("nan"))}
    assert first in failed(CHECKS[name](facts, odd))


@pytest.mark.parametrize(
    ("name", "weight", "line"),
    [
        ("intern_vit_6b_style", "encoder.layers.1.ls1", "hidden_states.2"),
        ("intern_vit_6b_style", "encoder.layers.2.attn.k_norm.weight", "last_hidden_state"),
        ("internvl_stage2", "qllama.model.layers.2.cross_attn.v_proj.weight", "loss_itc"),
        ("internvl_stage2", "itm_head.weight", "loss_itm"),
        ("internvl_stage2", "qllama.lm_head.weight", "loss_itg"),
        ("internvl_stage2", "text_projection", "c.text_features"),
        ("internvl_chat_llama_psv2_layer-1", "mlp1.3.bias", "image_features"),
        ("internvl_chat_internlm2_psv2_layer-1", "language_model.model.layers.1.attention.wqkv.weight", "logits"),
    ],
)
def test_a_weight_that_is_off_is_noticed(name: str, weight: str, line: str) -> None:
    facts, tensors = read_recording(PARITY, name)
    changed = tensors[f"w.{weight}"].clone()
    changed.view(-1)[0] += 0.05 if "itm" not in weight else 0.5
    found = failed(CHECKS[name](facts, {**tensors, f"w.{weight}": changed}))
    assert line in found
    if name == "intern_vit_6b_style":
        assert not {"hidden_states.0", "hidden_states.1", "resized.position_embedding"} & found


def test_weights_that_do_not_fit_are_named_together() -> None:
    facts, tensors = read_recording(PARITY, "intern_vit_6b_style")
    tensors["w.encoder.layers.0.ls1"] = tensors["w.encoder.layers.0.ls1"][:-1]
    tensors["w.encoder.layers.7.ls2"] = tensors.pop("w.encoder.layers.2.ls2")
    with pytest.raises(ValueError, match="InternViT") as caught:
        check_vision(facts, tensors)
    for part in (
        "'encoder.layers.2.ls2' is missing",
        "'encoder.layers.7.ls2' is not known",
        "has shape (95,) instead",
    ):
        assert part in str(caught.value)


def test_what_is_not_understood_is_not_passed_over() -> None:
    facts, tensors = read_recording(PARITY, "intern_vit_300m_style")
    assert failed(check_vision(facts, {**tensors, "attentions.0": torch.ones(1)})) == {"attentions.0"}
    assert failed(check_vision(facts, {**tensors, "grad.head.weight": torch.ones(1)})) == {"grad.head.weight"}
    more = {**tensors, "hidden_states.4": tensors["hidden_states.3"]}
    assert "hidden_states" in failed(check_vision(facts, more))
    for change in ({"hidden_act": "relu"}, {"norm_type": "batch_norm"}):
        with pytest.raises(ValueError, match="not computed here"):
            check_vision({"config": {**facts["config"], **change}}, tensors)


def test_chat_configurations_that_ours_cannot_compute_are_refused() -> None:
    facts, tensors = read_recording(PARITY, "internvl_chat_llama_psv2_layer-1")
    for change in (
        {"architectures": ["GPT2LMHeadModel"]},
        {"rope_scaling": {"type": "longrope"}},
        {"rope_scaling": {"type": "yarn", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "llama3", "factor": 2.0}},
        {"attention_bias": True},
        {"head_dim": 7},
    ):
        with pytest.raises(ValueError, match="not computed here"):
            check_chat({**facts, "llm_config": {**facts["llm_config"], **change}}, tensors)
    for change in ({"ps_version": "v1"}, {"select_layer": -2}):
        assert failed(check_chat({**facts, **change}, tensors)) >= {"image_features", "logits"}
    assert "num_image_token" in failed(check_chat({**facts, "num_image_token": 9}, tensors))


def test_an_error_is_relative_to_the_largest_magnitude() -> None:
    recorded = torch.tensor([0.0, -4.0, 2.0])
    assert relative_error(recorded + torch.tensor([0.0, 0.0, 0.1]), recorded) == pytest.approx(0.025)
    assert relative_error(recorded[:2], recorded) == float("inf")
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.ones(2), torch.zeros(2)) == float("inf")
    assert not Line("x", relative_error(recorded * float("nan"), recorded), 1.0).passed


def test_a_wrong_tile_or_prompt_is_noticed() -> None:
    tiling = read_json(PARITY / "dynamic_tiling.json")
    few = {"tiles": tiling["tiles"][:40], "grids": [row for row in tiling["grids"] if row[0] * row[1] < 200_000][:3]}
    assert len(few["grids"]) == 3 and not failed(check_tiling(few))
    few["tiles"][3] = [*few["tiles"][3][:5], few["tiles"][3][5] + 1]
    assert failed(check_tiling(few)) == {"tiles"}
    few["grids"][1][2].reverse()
    assert failed(check_tiling(few)) == {"tiles", "grids"}
    prompts = read_json(PARITY / "chat_prompts.json")
    prompts["Hermes-2"]["prompt_complete"] += "\n"
    prompts["vicuna"] = prompts["phi3-chat"]
    assert failed(check_prompts(prompts)) == {"Hermes-2 prompt_complete", "vicuna"}


# New recordings, made with our own models at sizes and seeds that nobody recorded.


def shaken(model: Any, seed: int) -> Any:
    """Return the model with every parameter moved, so that none is at its first value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def save_recording(folder: Path, name: str, facts: dict[str, Any], weights: Any, **tensors: torch.Tensor) -> None:
    whole = {f"w.{each}": value for each, value in weights.items()} | tensors
    save_file(
        {each: value.detach().clone().contiguous() for each, value in whole.items()}, folder / f"{name}.safetensors"
    )
    (folder / f"{name}.json").write_text(json.dumps(facts))


VISION = {"hidden_size": 40, "num_attention_heads": 5, "intermediate_size": 72, "num_hidden_layers": 2}
VISION |= {"image_size": 24, "patch_size": 6, "layer_norm_eps": 1e-6, "hidden_act": "gelu", "use_flash_attn": False}


def record_vision(folder: Path, seed: int) -> None:
    config = {**VISION, "patch_size": 8, "qkv_bias": True, "norm_type": "layer_norm"}
    known = {name: value for name, value in config.items() if name in VisionConfig.model_fields}
    model = shaken(InternVisionModel(VisionConfig(**known)), seed)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    pixels, larger = torch.randn(3, 3, 24, 24), torch.randn(1, 3, 40, 40)
    found = model(pixels)
    found.last_hidden_state.pow(2).mean().backward()
    out = {f"hidden_states.{number}": value for number, value in enumerate(found.hidden_states)}
    out |= {
        f"grad.{name}": model.get_parameter(name).grad
        for name in ("encoder.layers.1.ls2", "embeddings.class_embedding")
    }
    model.resize_position_embedding(40)
    out["resized.position_embedding"] = model.embeddings.position_embedding
    out["resized.last_hidden_state"], out["resized.pixel_values"] = model(larger).last_hidden_state, larger
    save_recording(
        folder, "intern_vit_own_style", {"config": config, "resized_image_size": 40}, weights,
        pixel_values=pixels, last_hidden_state=found.last_hidden_state, **out,
    )  # fmt: skip


def record_stage2(folder: Path, seed: int) -> None:
    text = {"vocab_size": 31, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 6, "num_key_value_heads": 6, "rms_norm_eps": 1e-6, "eos_token_id": 2}
    known = {name: value for name, value in VISION.items() if name in VisionConfig.model_fields}
    config = InternVLConfig(
        vision=VisionConfig.model_validate(known),
        text=TextConfig.model_validate({name: value for name, value in text.items() if name != "eos_token_id"}),
        embed_dim=20,
        attn_pool_num_heads=4,
        num_query_token=5,
        cross_attention_frequency=3,
        label_smoothing=0.1,
    )
    model = shaken(InternVL(config), seed)
    ids = torch.randint(3, 31, (3, 5, 7))
    mask = (torch.arange(7) < torch.tensor([7, 4, 6, 5, 7])[:, None]).long()
    pixels, labels = torch.randn(5, 3, 24, 24), ids[0].masked_fill(mask == 0, IGNORE)
    vision = model.see(pixels)
    batch = {
        "pixel_values": pixels, "summary_input_ids": ids[1], "summary_attention_mask": mask,
        "itm_input_ids": torch.cat([ids[2][:3], ids[0][3:]]), "itm_attention_mask": mask,
        "itm_labels": torch.tensor([0, 0, 0, 1, 1]),
        "prompted_input_ids": ids[0], "prompted_attention_mask": mask, "prompted_labels": labels,
    }  # fmt: skip
    losses = PlainGenerativeObjective(model)(batch)
    losses["loss"].backward()
    prompt = torch.tensor([[1, 7]] * 2)
    written = model.caption(vision[:2], prompt, 5)
    queries = model.clip_projector2(model.ask(vision)[0])
    facts = {
        "vision_config": VISION, "qllama_config": {**text, "cross_attention_frequency": 3}, "clip_embed_dim": 20,
        "attn_pool_num_heads": 4, "num_query_token": 5, "label_smoothing": 0.1,
    }  # fmt: skip
    out = {"loss": losses["loss"], **{f"loss_{each}": losses[each] for each in ("itc", "itm", "itg")}}
    out |= {"input_ids": ids[0], "attention_mask": mask, "labels": labels, "pixel_values": pixels}
    out |= {"summarize_input_ids": ids[1], "summarize_attention_mask": mask}
    out |= {"positive_input_ids": ids[0], "positive_attention_mask": mask}
    out |= {"negative_input_ids": ids[2], "negative_attention_mask": mask}
    out |= {"generate.input_ids": prompt, "generate.output_ids": torch.cat([prompt, written], dim=1)}
    out |= {
        f"grad.{name}": model.get_parameter(name).grad for name in ("logit_scale", "query_tokens", "text_projection")
    }
    both = F.normalize(model.clip_projector(vision), dim=-1) + F.normalize(queries, dim=-1)
    save_recording(
        folder, "internvl_stage2", facts, model.state_dict(), **out,
        **{"c.image_features": model.clip_projector(vision), "g.image_features": both},
    )  # fmt: skip


def record_chat(folder: Path, decoder: str, seed: int) -> None:
    text: dict[str, Any] = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 6, "num_key_value_heads": 3, "rms_norm_eps": 1e-5, "rope_theta": 1e6}
    known = {name: value for name, value in VISION.items() if name in VisionConfig.model_fields}
    if decoder == "Phi3ForCausalLM":  # six tokens are a long text
        factors = {"short_factor": [1.0, 2.0], "long_factor": [3.0, 9.0]}
        text |= {
            "rope_scaling": {"type": "su", **factors},
            "original_max_position_embeddings": 4,
            "sliding_window": 3,
        }
    if decoder == "InternLM2ForCausalLM":
        text |= {"rope_scaling": {"type": "dynamic", "factor": 3.0}, "max_position_embeddings": 4}
    spoken_shape = text_of({**text, "architectures": [decoder]})
    shape = {"downsample_ratio": 0.25, "ps_version": "v1", "select_layer": -2}
    config = ChatConfig.model_validate(
        {"vision": known, "text": spoken_shape, "image_context_token_id": 4, "eos_token_id": 2, **shape}
    )
    model = shaken(InternVLChat(config), seed)
    ids = torch.tensor([[1, 4, 9, 4, 8, 7], [1, 5, 4, 6, 2, 0]])
    mask = torch.tensor([[1] * 6, [1] * 5 + [0]])
    labels = torch.tensor([[IGNORE] * 4 + [8, 7], [IGNORE] * 3 + [6, 2, IGNORE]])
    pixels = torch.randn(3, 3, 24, 24)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels, "pixel_values": pixels}
    loss = model(batch)["loss"]
    loss.backward()
    gradients = chat_to_official({name: each.grad for name, each in model.named_parameters()}, decoder, config.text)
    spoken = next(
        name for name in gradients if (".layers.2." in name and "qkv" in name) or name.endswith("k_proj.weight")
    )
    facts = {"vision_config": VISION, "llm_config": {**text, "architectures": [decoder]}, **shape}
    save_recording(
        folder, f"internvl_chat_{decoder.removesuffix('ForCausalLM').lower()}_psv1_layer-2",
        {**facts, "img_context_token_id": 4, "num_image_token": 1},
        chat_to_official(model.state_dict(), decoder, config.text),
        **batch, loss=loss, logits=model.logits(ids, mask, pixels), image_features=model.image_features(pixels),
        **{f"grad.{name}": gradients[name] for name in (spoken, "mlp1.1.weight")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(17)
    record_vision(folder, 1)
    record_stage2(folder, 2)
    for decoder in ("LlamaForCausalLM", "Qwen2ForCausalLM", "InternLM2ForCausalLM", "Phi3ForCausalLM"):
        record_chat(folder, decoder, 3)
    (folder / "README.md").write_text("# ours\n")
    yield folder


def test_new_recordings_of_other_sizes_are_met(own: Path) -> None:
    checked = list(check_folder(own))
    assert [each.file for each in checked if not each.passed] == []
    assert len(checked) == 6
    lines = {each.file: {line.what for line in each.lines} for each in checked}
    assert "generate.output_ids" in lines["internvl_stage2.json"]
    assert {"loss", "logits"} < lines["internvl_chat_phi3_psv1_layer-2.json"]


@pytest.mark.parametrize("name", ["intern_vit_own_style", "internvl_stage2", "internvl_chat_phi3_psv1_layer-2"])
def test_new_recordings_of_another_model_are_not_met(own: Path, tmp_path: Path, name: str) -> None:
    facts, tensors = read_recording(own, name)
    weight = next(each for each in sorted(tensors) if each.startswith("w.") and each.endswith("norm1.weight"))
    save_file({**tensors, weight: tensors[weight] * 1.01}, tmp_path / f"{name}.safetensors")
    (tmp_path / f"{name}.json").write_text(json.dumps(facts))
    (checked,) = check_folder(tmp_path)
    assert not checked.passed and len(failed(checked.lines)) > 2


# Shapes.


def listed(model: Any, decoder: str = "", text: TextConfig | None = None) -> dict[str, list[int]]:
    state = chat_to_official(model.state_dict(), decoder, text) if text else model.state_dict()
    return {name: list(value.shape) for name, value in state.items()}


def count(shapes: dict[str, list[int]]) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def test_phi3_shapes_are_those_of_transformers() -> None:
    # Phi-3-mini and InternViT-300M: Mini-InternVL-Chat-4B-V1.5 (arXiv:2404.16821) has 4,146,855,936 parameters.
    with torch.device("meta"):
        spoken = Phi3ForCausalLM(
            Phi3Config(
                vocab_size=32_020, hidden_size=3072, intermediate_size=8192, num_hidden_layers=32,
                num_attention_heads=32, num_key_value_heads=32, tie_word_embeddings=False,
            )
        )  # fmt: skip
    shapes = {f"language_model.{name}": shape for name, shape in listed(spoken).items()}
    shapes |= {"mlp1.0.weight": [4096], "mlp1.0.bias": [4096], "mlp1.1.weight": [3072, 4096], "mlp1.1.bias": [3072]}
    shapes |= {"mlp1.3.weight": [3072, 3072], "mlp1.3.bias": [3072]}
    with torch.device("meta"):
        vision = listed(InternVisionModel(INTERN_VIT_300M_448))
    shapes |= {f"vision_model.{name}": shape for name, shape in vision.items()}
    assert not failed(check_shapes(4_146_855_936, shapes))


@pytest.mark.parametrize("name", ["w", "fused"])
def test_each_wrong_shape_name_or_count_is_noticed(name: str) -> None:
    text = TextConfig(
        vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=3,
    )  # fmt: skip
    known = {each: value for each, value in VISION.items() if each in VisionConfig.model_fields}
    config = ChatConfig(
        vision=VisionConfig.model_validate(known), text=text, image_context_token_id=4, eos_token_id=2
    )
    with torch.device("meta"):
        good = listed(InternVLChat(config), "InternLM2ForCausalLM" if name == "fused" else "LlamaForCausalLM", text)
    total = count(good)
    assert not failed(check_shapes(total, good))
    assert not failed(
        check_shapes(total, {**good, "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": [2]})
    )
    assert failed(check_shapes(total + 1, good)) == {"parameters"}
    odd = "vision_model.encoder.layers.1.mlp.fc2.weight"
    assert failed(check_shapes(total, {**good, odd: good[odd][::-1]})) == {"names and shapes"}
    assert failed(check_shapes(total, {**good, "language_model.model.layers.3.extra": [1]}))
    assert failed(check_shapes(total, {**good, "other": [1]})) == {"names and shapes"}
    for each in good:
        fewer = {name: shape for name, shape in good.items() if name != each}
        try:
            assert "names and shapes" in failed(check_shapes(total, fewer)), each
        except ValueError as error:
            assert "no shape can be read" in str(error) or "no tensor" in str(error)


def test_a_list_of_shapes_is_or_is_not_the_published_system_that_it_is_named_after() -> None:
    def published(shapes: dict[str, Any], name: str) -> Line:
        lines = check_shapes(count(shapes), shapes, name)
        assert [line.what for line in lines if not line.passed] in ([], ["published system"])
        return lines[-1]

    small = {name: list(shape) for name, shape in counting.shapes(SIZES["InternViT-300M-448px"]).items()}
    assert published(small, "InternViT-300M-448px").note == "InternViT-300M-448px is what was published"
    assert published(small, "OpenGVLab/internvit-300m-448px-v2_5").passed
    assert published(small, "mine").note == "the shapes of InternViT-300M-448px"
    other = published(small, "InternViT-6B-224px")
    assert not other.passed and "not InternViT-6B-224px: " in other.note and "norm1.bias' is not known" in other.note
    shorter = {name: shape for name, shape in small.items() if "layers.23." not in name}
    assert published(shorter, "mine").note == "none is known" and published(shorter, "").passed
    assert not published(shorter, "InternViT-300M-448px").passed
    # Never released, and so nothing to compare with.
    said = published(small, "InternVL2-Pro")
    assert said.passed and "never released" in said.note
    chat = {name: list(shape) for name, shape in counting.shapes(SIZES["InternVL2-2B"]).items()}
    assert published(chat, "x").note == "the shapes of Mini-InternVL-Chat-2B-V1-5, InternVL2-2B"
    contrastive = {name: list(shape) for name, shape in counting.shapes(SIZES["InternVL-C"]).items()}
    assert published(contrastive, "InternVL-C-13B-224px").passed


# Files.


def test_files_that_cannot_be_compared_are_named_with_the_reason(tmp_path: Path) -> None:
    torch.manual_seed(0)
    record_vision(tmp_path, 5)
    (tmp_path / "intern_vit_own_style.json").rename(tmp_path / "elsewhere.json")
    (tmp_path / "internvl_stage2.json").write_text("{}")
    (tmp_path / "shapes_x.json").write_text('{"tensors": {}}')
    (tmp_path / "chat_prompts.json").write_text("[1]")
    (tmp_path / "dynamic_tiling.json").write_text("{")
    (tmp_path / "notes.bin").write_bytes(b"x")
    (tmp_path / "internvl_chat_y.json").write_text('{"rest_from": "../elsewhere"}')
    save_file({"x": torch.zeros(1)}, tmp_path / "internvl_chat_y.safetensors")
    found = {each.file: each for each in check_folder(tmp_path)}
    reasons = {
        "intern_vit_own_style.safetensors": "intern_vit_own_style.json, which says what was recorded, is missing",
        "elsewhere.json": "not a kind of file",
        "internvl_stage2.json": "internvl_stage2.safetensors",
        "shapes_x.json": "parameters",
        "chat_prompts.json": "holds no JSON object",
        "dynamic_tiling.json": "property name",
        "notes.bin": "not a kind of file",
        "internvl_chat_y.json": "not a name in the same folder",
    }
    assert set(found) == set(reasons)
    for file, reason in reasons.items():
        assert not found[file].passed and reason in found[file].lines[0].note, found[file]


def test_a_recording_may_keep_its_weights_elsewhere(tmp_path: Path) -> None:
    facts, whole = read_recording(PARITY, "internvl_chat_internlm2_psv2_layer-1")
    assert "w.language_model.model.tok_embeddings.weight" in whole
    assert "w.language_model.lm_head.weight" not in whole and "w.mlp1.0.weight" in whole
    assert facts["rest_from"] == "internvl_chat_llama_psv2_layer-1"
    with pytest.raises(FileNotFoundError, match="is no folder"):
        check_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="nothing to check"):
        check_folder(tmp_path)
