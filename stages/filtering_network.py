"""Train a small CLIP on the sources that are trusted, to judge those that are not.

Data filtering networks need clean data more than size (arXiv:2309.17425). Used where no
pre-trained CLIP is given; `open_clip` defines and trains the model, and the score stage
hands its local weights to `clip-retrieval`.
"""

import hashlib
import io
import json
import math
from functools import partial
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from stages.checkpoints import jsonl, publish
from stages.manifest import Manifest, ManifestError, Part, digest_of
from stages.tars import read_tar
from stages.workspace import Output, Workspace, read_file, read_table

VERSION = 2
# Fixed, because how many threads share a sum decides its last bits.
THREADS = 1
MODEL_NAME = "internvl_filtering_network"


class Parameters(BaseModel):
    """Size and schedule; the defaults are those of the tiny recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=48, ge=16, description="Size of the pictures it looks at, in pixels.")
    patch_size: int = Field(default=8, ge=2)
    embed_dim: int = Field(default=64, ge=8)
    hidden_size: int = Field(default=96, ge=32)
    num_hidden_layers: int = Field(default=4, ge=1)
    context_length: int = Field(default=64, ge=8, description="Most tokens of a caption, in the CLIP vocabulary.")
    min_source_similarity: float = Field(
        default=0.0, description="Rows of trusted sources with a lower shipped score stay out."
    )
    held_out: int = Field(default=256, ge=16, description="Rows kept aside to measure retrieval.")
    global_batch_size: int = Field(default=128, ge=2)
    steps: int = Field(default=90, ge=1)
    learning_rate: float = Field(default=1.5e-3, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    seed: int = 0


def model_config(parameters: Parameters) -> dict[str, Any]:
    """Return open_clip's configuration of the network."""
    heads = max(1, parameters.hidden_size // 32)
    return {
        "embed_dim": parameters.embed_dim,
        "vision_cfg": {
            "image_size": parameters.image_size,
            "patch_size": parameters.patch_size,
            "width": parameters.hidden_size,
            "layers": parameters.num_hidden_layers,
            "head_width": parameters.hidden_size // heads,
        },
        "text_cfg": {
            "context_length": parameters.context_length,
            "vocab_size": 49408,
            "width": parameters.hidden_size,
            "heads": heads,
            "layers": max(1, parameters.num_hidden_layers - 1),
        },
    }


def _samples(
    output: Output, pools: list[Manifest], listings: list[Manifest], least: float
) -> list[tuple[bytes, str]]:
    """Return pictures with captions in the order of their hashes: a fair mixture, whatever address they came from."""
    similarity: dict[str, float | None] = {}
    for listing in listings:
        for part in listing.parts:
            table = read_table(output.store, listing, part, "rows", ["uid", "source_similarity"])
            for uid, value in zip(table["uid"].to_pylist(), table["source_similarity"].to_pylist(), strict=True):
                similarity[uid.hex()] = value
    found = []
    for pool in pools:
        for part in pool.parts:
            for key, members in read_tar(read_file(output.store, pool, part.files["pictures"])):
                score = similarity.get(key)
                if score is None or score >= least:
                    found.append((members["jpg"], members["txt"]))
    found.sort(key=lambda each: hashlib.sha256(b"".join(each)).digest())
    return [(picture, caption.decode()) for picture, caption in found]


def _train(_: str, parameters: Parameters, pools: list[Manifest], listings: list[Manifest], output: Output) -> Part:
    import open_clip
    import torch
    from accelerate import Accelerator
    from open_clip.loss import ClipLoss

    torch.set_num_threads(THREADS)
    torch.manual_seed(parameters.seed)
    samples = _samples(output, pools, listings, parameters.min_source_similarity)
    if len(samples) < parameters.held_out + parameters.global_batch_size:
        raise ManifestError(
            f"the trusted sources hold {len(samples)} pictures; a filtering network needs at least "
            f"{parameters.held_out + parameters.global_batch_size}: bring more pictures or trust more sources"
        )
    config = model_config(parameters)
    model = open_clip.CLIP(**config)
    preprocess = open_clip.image_transform(parameters.image_size, is_train=False)
    tokenizer = open_clip.SimpleTokenizer(context_length=parameters.context_length)
    pixels = torch.stack([preprocess(Image.open(io.BytesIO(jpg)).convert("RGB")) for jpg, _ in samples])
    tokens = tokenizer([text for _, text in samples])
    # In the order of hashes the first rows are a fair sample of all.
    held, kept = slice(0, parameters.held_out), range(parameters.held_out, len(samples))
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": parameters.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=parameters.learning_rate,
        betas=(0.9, 0.95),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / max(1, parameters.warmup_steps))
            * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / parameters.steps))))
        ),
    )
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    loss_of, history = ClipLoss(), []
    generator = torch.Generator().manual_seed(parameters.seed)
    order = torch.randperm(len(kept), generator=generator)
    at = 0
    for step in range(parameters.steps):
        if at + parameters.global_batch_size > len(order):
            order, at = torch.randperm(len(kept), generator=generator), 0
        rows = order[at : at + parameters.global_batch_size] + parameters.held_out
        at += parameters.global_batch_size
        image, text, scale = model(pixels[rows].to(accelerator.device), tokens[rows].to(accelerator.device))
        loss = loss_of(image, text, scale)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        history.append({"step": step + 1, "loss": round(float(loss.detach()), 5)})
    plain = accelerator.unwrap_model(model).eval()
    with torch.no_grad():
        image = torch.nn.functional.normalize(plain.encode_image(pixels[held].to(accelerator.device)), dim=-1)
        text = torch.nn.functional.normalize(plain.encode_text(tokens[held].to(accelerator.device)), dim=-1)
    # The same caption may stand under several held-out pictures: any of them counts as found.
    captions = [caption for _, caption in samples[held]]
    best = (image @ text.T).argmax(dim=1).tolist()
    found = sum(captions[guess] == captions[row] for row, guess in enumerate(best))
    weights = io.BytesIO()
    torch.save({k: v.cpu() for k, v in plain.state_dict().items()}, weights)
    facts = {
        "names": {"config": f"{MODEL_NAME}.json", "weights": f"{MODEL_NAME}.pt", "history": "history.jsonl"},
        "metrics": {
            "held_out": parameters.held_out,
            "image_to_text_r1": round(found / parameters.held_out, 4),
            "chance_r1": round(1 / parameters.held_out, 4),
            "last_loss": history[-1]["loss"],
        },
    }
    files: dict[str, tuple[str, Any]] = {
        "config": (f"{MODEL_NAME}.json", json.dumps(config, indent=2, sort_keys=True).encode()),
        "weights": (f"{MODEL_NAME}.pt", weights.getvalue()),
        "history": ("history.jsonl", jsonl(history)),
    }
    return publish(output, _input_digest(pools), files, len(samples), facts)


def _input_digest(pools: list[Manifest]) -> str:
    return digest_of([pool.digest for pool in pools])


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Train on the pools that were given, as one task."""
    pools, listings = here.all("pool"), here.all("listing")
    digest = _input_digest(pools)
    work = partial(_train, parameters=parameters, pools=pools, listings=listings, output=output)
    parts = here.map_parts(output, work, [("final", digest, "final")], unit="models", light=True)
    return output.commit(parts, totals=parts[0].facts["metrics"])
