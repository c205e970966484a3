"""Adapters through export: merged into the model, or beside it for peft; both say what ours says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import commit, exported, make_chat
from peft import PeftModel
from safetensors.torch import load_file
from transformers import InternVLForConditionalGeneration
from weight_shards import in_shards

from infra.storage import Store
from models.chat import InternVLChat
from models.lora import adapters
from stages import export
from stages.adapters import DESCRIBED, Adapted, adapt, fetch_chat
from stages.chat import ChatSession
from stages.checkpoints import publish
from stages.manifest import Manifest, ManifestError, digest_of, load
from stages.ref import Ref
from stages.workspace import Output

IDS = torch.tensor([[7, 30, 12, 41, 9, 25]])


def adapted(store: Store, vision: int, language: int, shape: dict[str, Any] | None = None) -> Manifest:
    """Publish adapters and a connector that learned as a whole, and their base under another name."""
    model, tokenizer, made = make_chat(store, shape or {})
    base = commit(store, "checkpoints/base", model.config.model_dump_json(), model.state_dict(), tokenizer)
    adapt(model, vision, language)
    for tower in (model.vision_model, model.language_model):
        for name, parameter in tower.named_parameters():
            parameter.requires_grad_("lora_" in name)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    facts = Adapted(base=base.ref, digest=base.digest, vision=vision, language=language)
    data = {
        **in_shards(adapters(model)),
        DESCRIBED: facts.described(),
        "config.json": model.config.model_dump_json().encode(),
        "tokenizer.json": tokenizer.to_str().encode(),
    }
    named = {name.replace(".", "_"): (f"adapted-{name}", value) for name, value in data.items()}
    store.remove("checkpoints/instruct/t/manifest.json")
    output = Output(store, made.ref, "instruct", {"stage": "instruct", "parameters": {}, "inputs": {}})
    names = {role: name.removeprefix("adapted-") for role, (name, _) in named.items()}
    return output.commit([publish(output, digest_of("y"), named, 1, {"names": names})])


def logits(model: Any, picture: torch.Tensor, context: int, cells: int) -> torch.Tensor:
    ids = torch.cat([IDS, torch.full((1, cells), context), IDS], dim=1)
    with torch.no_grad():
        if isinstance(model, InternVLChat):
            return model.logits(ids, torch.ones_like(ids), picture)
        return torch.as_tensor(model(input_ids=ids, pixel_values=picture).logits)


@pytest.mark.parametrize(("vision", "language"), [(2, 4), (3, 0), (0, 2)])
def test_merged_and_separate_compute_what_ours_computes(
    store: Store, tmp_path: Path, vision: int, language: int
) -> None:
    checkpoint = adapted(store, vision, language, {"qkv_bias": True})
    ours = ChatSession.from_folder(fetch_chat(store, checkpoint, tmp_path / "ours")).model
    torch.manual_seed(0)
    picture = torch.randn(1, 3, 48, 48)
    context, cells = ours.config.image_context_token_id, ours.config.num_image_token
    wanted = logits(ours, picture, context, cells)
    found = {}
    for way in ("merged", "separate"):
        manifest = exported(store, tmp_path, checkpoint, "instruct", version=way, adapters=way)
        folder = export.unpack(store, manifest, tmp_path / way)
        found[way] = InternVLForConditionalGeneration.from_pretrained(folder).eval()
    bare = logits(found["separate"], picture, context, cells)
    peft = PeftModel.from_pretrained(found["separate"], tmp_path / "separate" / "adapter").eval()
    for model in (found["merged"], peft):
        assert (logits(model, picture, context, cells) - wanted).abs().max() <= 2e-5 * wanted.abs().max()
    assert (bare - wanted).abs().max() > 1e-3 * wanted.abs().max(), "the adapters change something"
    card = (tmp_path / "separate" / "README.md").read_text()
    assert 'PeftModel.from_pretrained(model, FOLDER + "/adapter")' in card
    again = exported(store, tmp_path, checkpoint, "instruct", version="again", adapters="separate")
    assert again.parts[0].files == load(store, Ref(name="exports/instruct", version="separate")).parts[0].files


def test_the_official_layout_keeps_our_names(store: Store, tmp_path: Path) -> None:
    checkpoint = adapted(store, 2, 2)
    manifest = exported(store, tmp_path, checkpoint, "instruct", layout="official", adapters="separate")
    folder = export.unpack(store, manifest, tmp_path / "out")
    names = set(load_file(folder / "adapter" / "adapter_model.safetensors"))
    assert "base_model.model.vision_model.encoder.layers.0.attn.qkv.lora_A.weight" in names
    assert "base_model.model.language_model.model.layers.1.self_attn.q_proj.lora_B.weight" in names


def test_what_has_no_separate_adapters_is_refused(store: Store, tmp_path: Path) -> None:
    _, _, whole = make_chat(Store(str(tmp_path / "whole")))
    with pytest.raises(ManifestError, match=r"no adapters beside a base: .* train with lora.merge false"):
        exported(Store(str(tmp_path / "whole")), tmp_path, whole, "instruct", adapters="separate")
    fused = adapted(store, 2, 2, {"sliding_window": 9})
    with pytest.raises(ManifestError, match=r"Phi3ForCausalLM fuses projections .* export adapters merged"):
        exported(store, tmp_path, fused, "instruct", version="fused", adapters="separate")
