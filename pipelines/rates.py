"""What a row costs in the stages of the data road, where that was measured: by a stage of ours, or by a benchmark."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.storage import Store
from models.config import VisionConfig
from models.cost import vision_macs
from pipelines.budget import DECODED_PER_CORE, SAMPLE_BYTES
from pipelines.pricing import pace_of
from pipelines.utilisation import MEASURED
from stages.manifest import Manifest, find
from stages.materialize import StageSpec
from stages.ref import Ref

RESULTS = MEASURED.parent
VERDICT_BYTES = 24
"""A uid and a mask of reasons, as they are written before compression."""
_VISION = VisionConfig(
    image_size=224,
    patch_size=32,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
)
CLIP_TEXTS = {"ViT-B-32": (12, 512, 77), "xlm-roberta-base-ViT-B-32": (12, 768, 77)}
"""Layers, width and tokens of the text towers of open_clip's models that judge; both see by a ViT-B/32 at 224 px."""


@dataclass(frozen=True)
class Rate:
    """What a row takes; None where nobody measured it."""

    cpu_seconds: float | None = None
    bytes_out: float | None = None
    source: str = ""


UNKNOWN = Rate()


def rate(spec: StageSpec, store: Store) -> Rate:
    """Return what a row takes in a stage: as in an artifact made with the same parameters, else as benchmarked."""
    for ref in _alike(spec, store):
        made = find(store, ref)
        if made is not None and made.stage == spec.stage and made.identity["parameters"] == spec.parameters:
            cpu = cpu_seconds(made, store)
            rows = made.ledger.listed
            if rows and cpu is not None:
                return Rate(cpu / rows, bytes_of(made) / max(1, made.ledger.kept), f"as in {ref}")
    return _benchmarked(spec)


def _alike(spec: StageSpec, store: Store) -> list[Ref]:
    """Return other versions of an artifact, the last by name first."""
    name = spec.artifact.name
    return [Ref(name=name, version=each) for each in sorted(store.folders(name), reverse=True) if "." not in each]


def _benchmarked(spec: StageSpec) -> Rate:
    if spec.stage == "download":
        told = _results("download")
        cases = told.get("cases", {})
        found = cases.get("https 50 ms, even, 224 px", {}).get("ours", {}).get("cpu_ms_per_picture")
        if found is not None:
            return Rate(found / 1000, SAMPLE_BYTES, "CPU: benchmarks/results/download.json, https")
    if spec.stage == "filter":
        policy = spec.artifact.name.split("/")[1]
        found = _results("filters").get("manifest_scan", {}).get(policy)
        if found is not None:
            return Rate(found["cpu_seconds"] / found["rows"], VERDICT_BYTES, "CPU: benchmarks/results/filters.json")
    if spec.stage == "score":
        return Rate(1 / DECODED_PER_CORE, None, f"CPU: decoding alone, {DECODED_PER_CORE:g} pictures a second, ours")
    return UNKNOWN


def _results(name: str) -> Mapping[str, Any]:
    """Return what a benchmark of ours measured; nothing outside of a checkout."""
    file = RESULTS / f"{name}.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def cpu_seconds(made: Manifest, store: Store) -> float | None:
    """Return the CPU seconds that an artifact took; None where it was not made in one go."""
    if made.stage == "download":
        return pace_of(store, made).cpu_seconds
    key = made.ref.key("run.json")
    found = json.loads(store.read(key)).get("cpu_seconds") if store.exists(key) else None
    return None if found is None else float(found)


def bytes_of(made: Manifest) -> int:
    """Return the bytes of what an artifact has published."""
    return sum(file.bytes for file in made.files())


def clip_flops(model: str | None) -> float | None:
    """Return the FLOPs of scoring one pair by a CLIP model of open_clip; None where its sizes are not known here.

    A block of a text tower has an MLP of four times its width; attention counts all pairs of tokens.
    """
    shape = CLIP_TEXTS.get((model or "").removeprefix("open_clip:").partition("/")[0])
    if shape is None:
        return None
    layers, width, tokens = shape
    text = layers * (tokens * 12 * width**2 + 2 * tokens**2 * width)
    return 2.0 * (vision_macs(_VISION) + text)
