"""How an exported model is handed to the evaluation harnesses of others: what to run, and what to write for it.

CLIP_benchmark is installed with us and its adapter is tested (`stages.evaluations.on_clip_benchmark`). lmms-eval and
VLMEvalKit pin other versions of our dependencies and live in an environment of their own: their lines follow their
public code (lmms-eval's `internvl_hf` and `openai` models, VLMEvalKit's `--config` and `GPT4V`) and were not run.
"""

import json
from pathlib import Path
from typing import NamedTuple

from models.config import ChatConfig, InternVLConfig
from stages.evaluations.on_clip_benchmark import KIND
from stages.model_files import Source, open_source

TASKS = "mme,pope,gqa,textvqa_val,vizwiz_vqa_val,chartqa,docvqa_val,infovqa_val,scienceqa_img,coco2017_cap_val"
"""Of lmms-eval, those that the paper's chat models are measured on."""
SETS = {
    "MME": "ImageYORNDataset",
    "POPE": "ImageYORNDataset",
    "MMBench_DEV_EN": "ImageMCQDataset",
    "AI2D_TEST": "ImageMCQDataset",
    "ChartQA_TEST": "ImageVQADataset",
    "DocVQA_VAL": "ImageVQADataset",
    "TextVQA_VAL": "ImageVQADataset",
    "OCRBench": "OCRBench",
}
"""Of VLMEvalKit, with its classes: it takes a set without one for a video's."""
SERVED = "http://127.0.0.1:18700/v1"
AT_ONCE = 8
MOST_TOKENS = 512
PATIENCE_SECONDS = 600
CONFIG = "vlmevalkit.json"
KEY = "sk-evaluation-0123456789"
"""Only the harness on this machine needs it; VLMEvalKit takes no key that begins otherwise."""


class Handed(NamedTuple):
    """One harness, and how it takes the model."""

    harness: str
    run: str
    """Lines for a shell."""
    tested: bool
    why: str
    """What to know of it."""


def handed(folder: Path) -> list[Handed]:
    """Return how the model of a folder is handed to each harness that can take it.

    Raises:
        ValueError: It holds neither towers nor a chat model.
        FileNotFoundError: There is no model in it.
    """
    source = open_source(folder)
    if isinstance(source.config, InternVLConfig):
        return [_clip_benchmark(folder, "query_tokens" in source.weights)]
    if not isinstance(source.config, ChatConfig):
        raise ValueError(f"{folder} holds a vision tower alone; harnesses measure InternVL-C, -G and chat models")
    found = [_served_lmms(folder), _served_vlmevalkit(folder)]
    return [_native_lmms(folder, source), *found] if source.layout == "native" else found


def _clip_benchmark(folder: Path, queries: bool) -> Handed:
    kind = "g" if queries else "c"
    line = (
        "python -m stages.evaluations.on_clip_benchmark eval --model_type {kind} --model internvl_{way}_{task} "
        "--pretrained {folder} --dataset {sets} --dataset_root 'data/{{dataset}}' {more}"
    )
    lines = [
        line.format(
            kind=KIND, way=kind, folder=folder, task="classification", sets="wds/imagenet1k wds/cifar10",
            more="--task zeroshot_classification",
        ),
        line.format(
            kind=KIND, way=kind, folder=folder, task="retrieval", sets="wds/flickr30k wds/mscoco_captions",
            more="--task zeroshot_retrieval --recall_k 1 5 10",
        ),
    ]  # fmt: skip
    return Handed("CLIP_benchmark", "\n".join(lines), True, "Classification crops pictures, retrieval squashes them.")


def _native_lmms(folder: Path, source: Source) -> Handed:
    assert isinstance(source.config, ChatConfig)
    tiles = f"min_patches={source.config.min_dynamic_patch},max_patches={source.config.max_dynamic_patch}"
    run = (
        f"accelerate launch --num_processes 1 -m lmms_eval --model internvl_hf "
        f"--model_args pretrained={folder},{tiles} --tasks {TASKS} --batch_size 1 --log_samples --output_path logs"
    )
    return Handed("lmms-eval", run, False, "Loads the folder with transformers, in bfloat16; tiles as in training.")


def _serve(folder: Path) -> str:
    return f"INTERNVL_SERVE_TOKEN={KEY} internvl serve {folder} --most-tokens 1024 &"


def _served_lmms(folder: Path) -> Handed:
    run = (
        f"{_serve(folder)}\n"
        f"python -m lmms_eval --model openai --model_args base_url={SERVED},api_key={KEY},"
        f"model_version={folder},timeout={PATIENCE_SECONDS},num_concurrent={AT_ONCE} --tasks {TASKS} --log_samples "
        "--output_path logs"
    )
    why = "Through our endpoint, in whatever layout the model is; by itself it waits 10 seconds and asks 32 at once."
    return Handed("lmms-eval, served", run, False, why)


def _served_vlmevalkit(folder: Path) -> Handed:
    run = f"{_serve(folder)}\npython run.py --config {CONFIG}"
    why = (
        f"Through our endpoint; `internvl harness FOLDER --write DIR` writes {CONFIG}. By itself it shrinks pictures "
        "to 512 pixels, and it takes only keys that begin with sk-."
    )
    return Handed("VLMEvalKit, served", run, False, why)


def vlmevalkit_config(folder: Path) -> str:
    """Return VLMEvalKit's configuration of a served model and its benchmarks, as JSON."""
    model = {
        "class": "GPT4V",
        "model": str(folder),
        "api_base": f"{SERVED}/chat/completions",
        "key": KEY,
        "temperature": 0,
        "max_tokens": MOST_TOKENS,
        "img_size": -1,
        "img_detail": "high",
        "timeout": PATIENCE_SECONDS,
        "retry": 3,
    }
    data = {name: {"class": kind, "dataset": name} for name, kind in SETS.items()}
    return json.dumps({"model": {folder.resolve().name: model}, "data": data}, indent=2) + "\n"
