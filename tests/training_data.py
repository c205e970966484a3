"""Small real inputs of the training stages: drawn pictures in shards, and a tiny language model with a tokenizer."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from weight_shards import in_shards

from infra.storage import Store
from models.config import TextConfig, VisionConfig
from models.generative_objective import is_trained
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.qllama import LlamaForCausalLM
from models.renaming import above, fill
from stages import contrastive_parameters
from stages.checkpoints import beside, fetch, publish
from stages.manifest import Ledger, Manifest, digest_of
from stages.ref import Ref
from stages.sources.captions import LANGUAGES, caption
from stages.sources.questions import document
from stages.sources.scenes import Split, draw, sample_scene
from stages.tars import tar_bytes
from stages.weight_files import open_weights
from stages.workspace import Output


def members(index: int, image_size: int = 48) -> tuple[str, dict[str, bytes]]:
    """Return one drawn sample as (key, suffix -> bytes), as the shards stage writes it."""
    scene = sample_scene(7, index, Split.TRAIN)
    language = LANGUAGES[index % len(LANGUAGES)]
    words = caption(scene, language, index % 2)
    picture = io.BytesIO()
    draw(scene, image_size).save(picture, format="JPEG", quality=92)
    uid = f"{index:032x}"
    facts = {"uid": uid, "source": "drawn", "language": language, "caption": words}
    return uid, {
        "jpg": picture.getvalue(),
        "txt": words.encode(),
        "json": json.dumps(facts, sort_keys=True, ensure_ascii=False).encode(),
    }


def make_shards(
    store: Store,
    name: str = "shards/clean",
    version: str = "t",
    samples: int = 64,
    image_size: int = 48,
    rows_per_shard: int = 40,
) -> Manifest:
    """Publish drawn samples as WebDataset shards, as stages/write_shards.py lays them out."""
    output = Output(store, Ref(name=name, version=version), "write_shards", {"samples": samples})
    parts = []
    for number, start in enumerate(range(0, samples, rows_per_shard)):
        rows = range(start, min(start + rows_per_shard, samples))
        tar = tar_bytes(members(index, image_size) for index in rows)
        key = f"{number:06d}"
        ledger = Ledger(listed=len(rows), kept=len(rows))
        parts.append(output.part(key, digest_of(list(rows)), ledger, {"tar": (f"{key}.tar", tar)}))
    return output.commit(parts, totals={"per_source": {"drawn": samples}})


def tiny_tokenizer(vocab_size: int = 360, texts: Iterable[str] | None = None) -> Tokenizer:
    """Return a byte-level BPE tokenizer of some texts, the drawn world's when left out."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_drawn_texts() if texts is None else texts, trainer)
    return tokenizer


def _drawn_texts() -> list[str]:
    texts: list[str] = []
    for index in range(120):
        told = document(sample_scene(7, index, Split.TRAIN), index)
        texts += [told.described, told.retold, *(f"{each.question} {each.answer}" for each in told.asked)]
    return texts


def make_language(
    store: Store,
    version: str = "t",
    hidden_size: int = 32,
    num_hidden_layers: int = 2,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
    max_position_embeddings: int = 512,
) -> Manifest:
    """Publish an untrained tiny language model, as stages/language.py lays it out."""
    tokenizer = tokenizer or tiny_tokenizer()
    config = TextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=2,
        max_position_embeddings=max_position_embeddings,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    files = {
        **in_shards(model.state_dict()),
        "config.json": json.dumps({"text": config.model_dump(mode="json")}).encode(),
        "tokenizer.json": tokenizer.to_str().encode(),
    }
    return _published(store, "language", version, files, {"stage": "language"})


def make_contrastive(store: Store, version: str = "t", image_size: int = 48, seed: int = 0) -> Manifest:
    """Publish an untrained tiny vision encoder, where stages/instruct.py looks for the contrastive stage's."""
    config = VisionConfig(
        image_size=image_size,
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        initializer_factor=1.0,
    )
    torch.manual_seed(seed)
    files = {
        **in_shards(above(InternVisionModel(config).state_dict(), "vision_model.")),
        "config.json": json.dumps({"vision": config.model_dump(mode="json")}).encode(),
    }
    return _published(store, "contrastive", version, files, {"image": image_size})


def make_internvl_c(store: Store, language: Manifest, folder: Path, version: str = "t", seed: int = 0) -> Manifest:
    """Publish an untrained tiny InternVL-C on a language model, where the later stages look for the contrastive's."""
    return _towers(store, language, folder, "contrastive", version, seed)


def make_generative(store: Store, language: Manifest, folder: Path, version: str = "t", seed: int = 0) -> Manifest:
    """Publish an untrained tiny InternVL-G on a language model, where the generative stage's is looked for."""
    return _towers(store, language, folder, "generative", version, seed)


def _towers(store: Store, language: Manifest, folder: Path, stage: str, version: str, seed: int) -> Manifest:
    found = fetch(store, language, folder)
    text = TextConfig.model_validate(json.loads((found / "config.json").read_text())["text"])
    given = contrastive_parameters.Parameters(
        patch_size=12, hidden_size=24, intermediate_size=48, num_hidden_layers=2, embed_dim=16
    )
    torch.manual_seed(seed)
    model = InternVL(contrastive_parameters.config_of(given, text), generative=stage == "generative")
    looks = [name for name in model.qllama.state_dict() if is_trained(f"qllama.{name}")]
    fill(model.qllama, open_weights(found), "the language model", looks)
    files = {**in_shards(model.state_dict()), **beside(model.config, found)}
    return _published(store, stage, version, files, {"untrained": seed})


def _published(store: Store, stage: str, version: str, files: dict[str, bytes], config: dict[str, Any]) -> Manifest:
    output = Output(store, Ref(name=f"checkpoints/{stage}", version=version), stage, config)
    named = {name.partition(".")[0]: (name, data) for name, data in files.items()}
    facts = {"names": {role: name for role, (name, _) in named.items()}, "metrics": {}, "curve": []}
    return output.commit([publish(output, digest_of("drawn"), named, 1, facts)])
