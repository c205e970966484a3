"""Hold our models against numbers recorded from the official code: one line for each output and gradient.

A recording is a configuration and tensors: `w.<name>` the official weights, `grad.<name>` gradients,
the other names inputs and outputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.chat import InternVLChat
from models.decoders import decoder_of
from models.generative_objective import GenerativeObjective, is_trained
from models.grad_cache import accumulate
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.objective import Named, totals_of
from models.official_config import chat_of, internvl_of, vision_of
from models.plain_generative import PlainGenerativeObjective
from models.recording import GRADIENT_TOLERANCE, TOLERANCE, Line, Recording, equal, gradients_of, relative_error
from models.renaming import State, fill
from models.weights import chat_from_official, chat_to_official

WHOLE = "the whole batch"
_PAD = 0  # what the official decoding fills ended rows with


def check_vision(facts: Mapping[str, Any], tensors: State) -> list[Line]:
    """Compare InternViT: hidden states, outputs, gradients of `mean(last_hidden_state ** 2)`, resized positions.

    Args:
        facts: `config`, and `resized_image_size` where the position embedding was resized.
        tensors: The recording.

    Raises:
        ValueError: The configuration is not computed here, the weights do not fit, or an input is missing.
    """
    data = Recording(tensors)
    model = InternVisionModel(vision_of(facts["config"])).eval()
    fill(model, data.weights(), "InternViT")
    found = model(data["pixel_values"])
    states = dict(data.below("hidden_states."))
    if states:
        data.lines.append(equal("hidden_states", len(found.hidden_states), len(states)))
    for name in sorted(states, key=int):
        if int(name) < len(found.hidden_states):
            data.near(f"hidden_states.{name}", found.hidden_states[int(name)])
    data.near("last_hidden_state", found.last_hidden_state)
    data.near("pooler_output", found.pooler_output)
    found.last_hidden_state.pow(2).mean().backward()
    data.gradients(gradients_of(model))
    if "resized_image_size" in facts:
        _check_resized(model, data, facts["resized_image_size"])
    return data.close()


def _check_resized(model: InternVisionModel, data: Recording, image_size: int) -> None:
    """Compare another picture size, with positions interpolated for one call, and then once and for all."""
    pixels = data["resized.pixel_values"]
    with torch.no_grad():
        for_one_call = model(pixels).last_hidden_state
        data.near("resized.last_hidden_state", for_one_call, note="interpolated for one call")
        model.resize_position_embedding(image_size)
        data.near("resized.position_embedding", model.embeddings.position_embedding)
        found = model(pixels)
        data.near("resized.last_hidden_state", found.last_hidden_state, note="interpolated once")
        data.near("resized.pooler_output", found.pooler_output)


def _stage2_batch(data: Recording) -> dict[str, Tensor]:
    """Return the recorded batch: wrong captions for the first half (rounded up), right ones for the rest."""
    rows = len(data["pixel_values"])
    wrong = rows - rows // 2

    def judged(name: str) -> Tensor:
        return torch.cat([data[f"negative_{name}"][:wrong], data[f"positive_{name}"][wrong:]])

    return {
        "row": torch.arange(rows),
        "pixel_values": data["pixel_values"],
        "summary_input_ids": data["summarize_input_ids"],
        "summary_attention_mask": data["summarize_attention_mask"],
        "itm_input_ids": judged("input_ids"),
        "itm_attention_mask": judged("attention_mask"),
        "itm_labels": (torch.arange(rows) >= wrong).long(),
        "prompted_input_ids": data["input_ids"],
        "prompted_attention_mask": data["attention_mask"],
        "prompted_labels": data["labels"],
    }


def _train_step(
    objective: GenerativeObjective | PlainGenerativeObjective | InternVLChat, batches: list[Named]
) -> dict[str, Tensor]:
    """Return the losses of one step as the training loop takes it; gradients are left in the weights."""
    objective.zero_grad(set_to_none=True)
    return accumulate(objective, batches, totals_of(objective, batches), torch.Tensor.backward, nullcontext)


def _check_stage2_steps(model: InternVL, data: Recording) -> None:
    """Compare losses and gradients of the step as the official code computes it, and of ours, whole and in pieces."""
    batch = _stage2_batch(data)
    rows = len(batch["row"])

    def losses(found: Mapping[str, Tensor], note: str) -> None:
        for name in ("loss", "itc", "itm", "itg"):
            data.near(name if name == "loss" else f"loss_{name}", found[name], note=note)

    losses(_train_step(PlainGenerativeObjective(model), [batch]), "three passes")
    data.gradients(gradients_of(model))
    for note, size in (("shared pass", rows), ("shared pass, two micro batches", -(-rows // 2))):
        pieces = [{name: value[at : at + size] for name, value in batch.items()} for at in range(0, rows, size)]
        losses(_train_step(GenerativeObjective(model), [*pieces]), note)
        found = gradients_of(model)
        for name, _ in data.below("grad."):
            if is_trained(name) and name in found:
                data.near(f"grad.{name}", found[name], GRADIENT_TOLERANCE, note)


def check_stage2(facts: Mapping[str, Any], tensors: State) -> list[Line]:
    """Compare InternVL-C and InternVL-G: stage 2's losses and gradients, both models' vectors, greedy captions.

    Args:
        facts: The fields of InternVL-14B's configuration.
        tensors: The recording.

    Raises:
        ValueError: The configuration is not computed here, the weights do not fit, or an input is missing.
    """
    data = Recording(tensors)
    model = InternVL(internvl_of(facts)).eval()
    fill(model, data.weights(), "InternVL-G")
    _check_stage2_steps(model, data)
    with torch.no_grad():
        vision = model.see(data["pixel_values"])
        text = model.project_text(data["summarize_input_ids"], data["summarize_attention_mask"])
        units = F.normalize(text, dim=-1)
        pooled, asked = model.clip_projector(vision), model.clip_projector2(model.ask(vision)[0])
        # Both models' vectors were recorded before they were brought to unit length.
        data.near("c.image_features", pooled)
        data.near("g.image_features", F.normalize(pooled, dim=-1) + F.normalize(asked, dim=-1))
        for kind, seen in (("c", model.pool_image(vision)), ("g", model.mix_views(vision))):
            data.near(f"{kind}.text_features", text)
            data.near(f"{kind}.logits_per_image", model.similarity(seen, units))
            data.near(f"{kind}.logits_per_text", model.similarity(seen, units).T)
        if "generate.output_ids" in data:
            data.lines.append(_captions(model, data, facts["qllama_config"].get("eos_token_id")))
    return data.close()


def _captions(model: InternVL, data: Recording, eos_token_id: int | None) -> Line:
    """Return how many greedy tokens differ; what a decoder fills in behind an end is not compared."""
    prompt, recorded = data["generate.input_ids"], data["generate.output_ids"]
    pictures = (
        data["generate.pixel_values"] if "generate.pixel_values" in data else data["pixel_values"][: len(prompt)]
    )
    vision = model.see(pictures)
    written = model.caption(vision, prompt, recorded.shape[1] - prompt.shape[1])
    ours = torch.cat([prompt, written], dim=1)
    filling = torch.zeros_like(recorded, dtype=torch.bool)
    if eos_token_id is not None:
        for row, tokens in enumerate(recorded.tolist()):
            if eos_token_id in tokens[prompt.shape[1] :]:
                end = tokens.index(eos_token_id, prompt.shape[1]) + 1
                filling[row, end:] = all(token in (_PAD, eos_token_id) for token in tokens[end:])
    if ours.shape != recorded.shape:
        return Line("generate.output_ids", float("inf"), 0.0, f"shape {tuple(ours.shape)}")
    differ = int(((ours != recorded) & ~filling).sum())
    return Line("generate.output_ids", float(differ), 0.0, f"{differ} tokens differ" if differ else "")


def check_chat(facts: Mapping[str, Any], tensors: State) -> list[Line]:
    """Compare a chat model: features after the connector, logits, loss, gradients.

    Args:
        facts: The fields of a chat model's configuration, and `img_context_token_id`.
        tensors: The recording.

    Raises:
        ValueError: The configuration is not computed here, the weights do not fit, or an input is missing.
    """
    data = Recording(tensors)
    decoder = decoder_of(facts["llm_config"])
    config = chat_of(facts, image_context_token_id=facts["img_context_token_id"])
    model = InternVLChat(config).eval()
    fill(model, chat_from_official(data.weights(), decoder, config.text), "the chat model")
    if "num_image_token" in facts:
        data.lines.append(equal("num_image_token", config.num_image_token, facts["num_image_token"]))
    inputs = ["input_ids", "attention_mask", "labels", "pixel_values"]
    batch = {name: data[name] for name in [*inputs, *(["image_flags"] if "image_flags" in data else [])]}
    read = batch["attention_mask"].bool()
    with torch.no_grad():
        data.near("image_features", model.image_features(batch["pixel_values"]))
        if "logits" in data:
            arguments = {name: value for name, value in batch.items() if name != "labels"}
            error = relative_error(model.logits(**arguments)[read], data["logits"][read])
            data.lines.append(Line("logits", error, TOLERANCE, "where a token is read"))
    for note, pieces in _chat_steps(batch, facts.get("tiles_per_sample", ())):
        data.near("loss", _train_step(model, pieces)["loss"], note=note)
        found = chat_to_official(gradients_of(model), decoder, config.text)
        if note == WHOLE:
            data.gradients(found)
            continue
        for name, _ in data.below("grad."):
            if name in found:
                data.near(f"grad.{name}", found[name], GRADIENT_TOLERANCE, note)
    return data.close()


def _chat_steps(batch: Mapping[str, Tensor], tiles: Sequence[int]) -> Iterator[tuple[str, list[Named]]]:
    """Return the same step in the ways in which the training loop may take it.

    Args:
        batch: As recorded, padded on the right.
        tiles: Of each sample; where they are not told, only the whole batch is a step.
    """
    yield WHOLE, [batch]
    if not tiles or sum(tiles) != len(batch["pixel_values"]):
        return
    rows = [name for name in batch if len(batch[name]) == len(tiles) and name not in ("pixel_values", "image_flags")]
    shown = {name: batch[name].split(list(tiles)) for name in ("pixel_values", "image_flags") if name in batch}
    pieces: list[Named] = [
        {name: batch[name][row : row + 1] for name in rows} | {name: each[row] for name, each in shown.items()}
        for row in range(len(tiles))
    ]
    yield "a micro batch for each sample", pieces
    read = batch["attention_mask"].bool()
    index = torch.arange(len(tiles), device=read.device)[:, None].expand_as(read)
    packed = {"input_ids": batch["input_ids"], "labels": batch["labels"], "sample_index": index}
    pictures = {name: batch[name] for name in shown}
    yield "packed into one row", [{name: value[read][None] for name, value in packed.items()} | pictures]
