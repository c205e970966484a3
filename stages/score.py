"""Compute every signal once: how well captions fit, what resembles evaluation pictures, what repeats.

CLIP embeddings come from `clip-retrieval`'s reader, mapper and writer, run inside our tasks; the
evaluation pictures are indexed with its indexer. Rows are aligned by key, never by position.
"""

import io
import json
import os
import re
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from infra.storage import sha256_file
from stages.checkpoints import fetch
from stages.filtering_network import MODEL_NAME
from stages.lean import lean_package, without
from stages.manifest import File, Ledger, Manifest, ManifestError, Part, digest_of
from stages.outcome import Outcome
from stages.sources.scenes import Split, evaluation_pictures
from stages.sources.web_server import read_pictures
from stages.tars import tar_bytes
from stages.workspace import Output, Workspace, parquet_bytes, read_file, read_table

VERSION = 1
Floats = npt.NDArray[np.float32]


class Parameters(BaseModel):
    """Which models score, and what counts as an evaluation picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_model: str | None = Field(
        default=None,
        description="A pre-trained CLIP as clip-retrieval names it; the filtering network when left out.",
    )
    batch_size: int = Field(default=128, ge=1)
    evaluation_scenes: int = Field(default=0, ge=0, description="Scenes of each evaluation split that are indexed.")
    evaluation_folder: str | None = Field(default=None, description="Folder or tar of evaluation pictures.")
    image_size: int = Field(default=48, ge=16, description="Size that evaluation scenes are drawn at.")
    seed: int = Field(default=0, description="Seed of the world that evaluation scenes are from.")


class _Silent:
    """clip-retrieval's logger starts processes of its own; progress is ours to report."""

    def start(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def __call__(self, stats: dict[str, Any]) -> None:
        """Do nothing."""


def _model(folder: Path) -> str:
    """Register the filtering network in this process and return its name for clip-retrieval."""
    import open_clip

    open_clip.add_model_config(folder / f"{MODEL_NAME}.json")
    return f"open_clip:{MODEL_NAME}/{folder / MODEL_NAME}.pt"


def embed(tar: bytes, clip_model: str, batch_size: int, text: bool) -> tuple[list[str], Floats, Floats | None]:
    """Return (keys, image embeddings, text embeddings) of a WebDataset tar, unit length, shape (samples, dim)."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from all_clip import load_clip

    lean_package("clip_retrieval")
    lean_package("clip_retrieval.clip_inference")
    # Only its multilingual text models come from there, and they are not used.
    with without("sentence_transformers", SentenceTransformer=None):
        from clip_retrieval.clip_inference.mapper import ClipMapper
    from clip_retrieval.clip_inference.reader import WebdatasetReader
    from clip_retrieval.clip_inference.runner import Runner
    from clip_retrieval.clip_inference.writer import NumpyWriter

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    _, preprocess, tokenizer = load_clip(
        clip_model=clip_model, use_jit=False, warmup_batch_size=1, clip_cache_path=None
    )
    with tempfile.TemporaryDirectory(prefix="internvl-score-") as folder:
        path = Path(folder) / "part.tar"
        path.write_bytes(tar)
        Runner(
            # The key travels as the file name, so rows are joined by it afterwards.
            reader_builder=lambda sampler: WebdatasetReader(
                lambda urls: urls, preprocess, tokenizer, str(path), batch_size, 0, enable_text=text
            ),
            mapper_builder=lambda: ClipMapper(True, text, False, False, clip_model, False, "", 1),
            writer_builder=lambda number: NumpyWriter(number, folder + "/out", text, True, False, 1),
            logger_builder=lambda number: _Silent(),
            output_partition_count=1,
        )(0)
        out = Path(folder) / "out"
        images = np.concatenate([np.load(f, allow_pickle=False) for f in sorted((out / "img_emb").glob("*.npy"))])
        names = pa.concat_tables([pq.read_table(f) for f in sorted((out / "metadata").glob("*.parquet"))])
        keys = [str(name) for name in names["image_path"].to_pylist()]
        texts = (
            np.concatenate([np.load(f, allow_pickle=False) for f in sorted((out / "text_emb").glob("*.npy"))])
            if text
            else None
        )
    if len(keys) != len(images) or (texts is not None and len(texts) != len(images)):
        raise ManifestError(
            f"clip-retrieval gave {len(images)} embeddings for {len(keys)} keys; refusing to guess rows"
        )
    return keys, _unit(images), _unit(texts) if texts is not None else None


def _unit(rows: npt.NDArray[Any]) -> Floats:
    found = rows.astype(np.float32)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def build_index(embeddings: Floats, folder: Path) -> Path:
    """Index evaluation pictures with clip-retrieval's indexer; return the faiss file."""
    lean_package("clip_retrieval")
    from clip_retrieval.clip_index import clip_index

    (folder / "img_emb").mkdir(parents=True)
    np.save(folder / "img_emb" / "img_emb_0.npy", embeddings)
    plain = json.JSONEncoder.default
    # autofaiss writes numpy numbers as JSON, which numpy 2 no longer allows by itself.
    json.JSONEncoder.default = lambda self, o: o.item() if isinstance(o, np.generic) else plain(self, o)  # type: ignore[method-assign]
    try:
        clip_index(str(folder), str(folder / "index"), copy_metadata=False, nb_cores=1)
    finally:
        json.JSONEncoder.default = plain  # type: ignore[method-assign]
    return folder / "index" / "image.index"


def _evaluation_tar(parameters: Parameters) -> bytes | None:
    """Return the evaluation pictures as a tar, None where there are none."""
    samples: list[tuple[str, dict[str, bytes]]] = []
    if parameters.evaluation_folder:
        for number, (_, data, _) in enumerate(read_pictures(Path(parameters.evaluation_folder))):
            samples.append((f"{number:08d}", {"jpg": data}))
    for split in (Split.IID, Split.UNSEEN):
        # Drawn large and made small, as the web's pictures are on their way into the pool.
        size = parameters.image_size
        pictures = evaluation_pictures(split, parameters.evaluation_scenes, parameters.seed, 2 * size)
        for number, (image, _) in enumerate(pictures):
            out = io.BytesIO()
            image.resize((size, size), Image.Resampling.BOX).save(out, "JPEG", quality=95)
            samples.append((f"{split}{number:08d}", {"jpg": out.getvalue()}))
    return tar_bytes(samples) if samples else None


def fold(caption: str) -> str:
    """Return a caption as repeats are counted: case folded, digits alike, white space collapsed."""
    return re.sub(r"\s+", " ", re.sub(r"\d", "0", caption.casefold())).strip()


def score_part(
    item: tuple[str, str, Part, Part],
    output: Output,
    pool: Manifest,
    listing: Manifest,
    parameters: Parameters,
    network: Manifest | None,
    index: File | None,
    pictures: dict[str, int],
    captions: dict[str, int],
) -> Part:
    """Write one column file per signal for the fetched rows of one part, in uid order."""
    key, digest, listed, fetched = item
    outcomes = read_table(output.store, pool, fetched, "outcomes")
    outcomes = outcomes.filter(pa.compute.equal(outcomes["outcome"], str(Outcome.FETCHED))).sort_by("uid")
    uids = outcomes["uid"].to_pylist()
    rows = {row["uid"]: row for row in read_table(output.store, listing, listed, "rows").to_pylist()}
    clip, overlap = {}, {}
    if uids:
        with tempfile.TemporaryDirectory(prefix="internvl-network-") as folder:
            name = parameters.clip_model or _model(fetch(output.store, network, Path(folder)))  # type: ignore[arg-type]
            tar = read_file(output.store, pool, fetched.files["pictures"])
            keys, images, texts = embed(tar, name, parameters.batch_size, text=True)
            assert texts is not None
            clip = dict(zip(keys, (images * texts).sum(axis=1), strict=True))
            if index is not None:
                overlap = dict(
                    zip(keys, _nearest(read_file(output.store, _own(output, index), index), images), strict=True)
                )
    short = np.minimum(outcomes["original_width"].to_numpy(), outcomes["original_height"].to_numpy())
    long = np.maximum(outcomes["original_width"].to_numpy(), outcomes["original_height"].to_numpy())
    signals: dict[str, pa.Array] = {
        "caption": pa.array([rows[uid]["caption"] for uid in uids], pa.string()),
        "language": pa.array([rows[uid]["language"] for uid in uids], pa.string()),
        "clip_similarity": pa.array([_number(clip.get(uid.hex())) for uid in uids], pa.float32()),
        "eval_similarity": pa.array([_number(overlap.get(uid.hex())) for uid in uids], pa.float32()),
        "aesthetic": pa.array([rows[uid]["source_aesthetic"] for uid in uids], pa.float32()),
        "unsafe": pa.array([rows[uid]["source_unsafe"] for uid in uids], pa.float32()),
        "watermark": pa.array([rows[uid]["source_watermark"] for uid in uids], pa.float32()),
        "min_side": pa.array(short.astype(np.float32), pa.float32()),
        "aspect": pa.array((long / np.maximum(short, 1)).astype(np.float32), pa.float32()),
        "image_bytes": pa.array(outcomes["bytes"].to_numpy().astype(np.float32), pa.float32()),
        "duplicates": pa.array([float(pictures[h]) for h in outcomes["sha256"].to_pylist()], pa.float32()),
        "caption_frequency": pa.array([float(captions[fold(rows[uid]["caption"])]) for uid in uids], pa.float32()),
    }
    identity = pa.array(uids, pa.binary(16))
    files = {
        name: (f"{name}/{key}.parquet", parquet_bytes(pa.table({"uid": identity, "value": column})))
        for name, column in signals.items()
    }
    return output.part(key, digest, Ledger(listed=len(uids), kept=len(uids)), files)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _own(output: Output, file: File) -> Manifest:
    """Return a manifest that only names this artifact, to read a file published before the real one stands."""
    return Manifest(
        ref=output.ref, stage=output.stage, identity=output.identity, ledger=Ledger(listed=0, kept=0), parts=()
    )


def _nearest(index: bytes, images: Floats) -> Floats:
    import faiss

    faiss.omp_set_num_threads(1)
    found = faiss.deserialize_index(np.frombuffer(index, dtype=np.uint8))
    similarity, _ = found.search(images, 1)
    return np.asarray(similarity[:, 0], dtype=np.float32)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Score all parts of a pool."""
    pool, listing = here.input("pool"), here.input("listing")
    network = here.input("checkpoints") if parameters.clip_model is None else None
    pictures: Counter[str] = Counter()
    captions: Counter[str] = Counter()
    by_key = {part.key: part for part in pool.parts}
    for part in pool.parts:
        hashes = read_table(output.store, pool, part, "outcomes", ["sha256"])["sha256"].to_pylist()
        pictures.update(h for h in hashes if h)
    for part in listing.parts:
        texts = read_table(output.store, listing, part, "rows", ["caption"])["caption"].to_pylist()
        captions.update(fold(text) for text in texts)
    index = None
    if (tar := _evaluation_tar(parameters)) is not None:
        folder = here.scratch / "network"
        name = parameters.clip_model or _model(fetch(output.store, network, folder))  # type: ignore[arg-type]
        _, images, _ = embed(tar, name, parameters.batch_size, text=False)
        index = output.file("index/evaluation.index", build_index(images, here.scratch / "evaluation"))
    work = partial(
        score_part,
        output=output,
        pool=pool,
        listing=listing,
        parameters=parameters,
        network=network,
        index=index,
        pictures=dict(pictures),
        captions=dict(captions),
    )
    items = []
    for part in listing.parts:
        fetched = by_key[part.key]
        digest = digest_of(
            [part.files["rows"].sha256, fetched.files["outcomes"].sha256, fetched.files["pictures"].sha256]
        )
        items.append((part.key, digest, (part.key, digest, part, fetched)))
    parts = here.map_parts(output, work, items, light=True)
    weights = network.parts[0].files["weights"].sha256 if network else _weights_digest(parameters.clip_model or "")
    return output.commit(
        parts, totals={"clip_weights_sha256": weights, "clip_model": parameters.clip_model or MODEL_NAME}
    )


def _weights_digest(clip_model: str) -> str | None:
    path = Path("/" + clip_model.partition("//")[2])
    return sha256_file(path) if path.is_file() else None


def load_signals(
    output: Output, signals: Manifest, part: Part, names: list[str]
) -> tuple[list[bytes], dict[str, Any]]:
    """Return (uids, columns) of one part: numbers as float32 with NaN for null, text as Arrow strings."""
    columns: dict[str, Any] = {}
    uids: list[bytes] | None = None
    for name in names:
        table = read_table(output.store, signals, part, name)
        found = table["uid"].to_pylist()
        if uids is not None and found != uids:
            raise ManifestError(f"signal {name} of {signals.ref} part {part.key} names other rows; score it again")
        uids = found
        column = table["value"].combine_chunks()
        if pa.types.is_string(column.type):
            columns[name] = column
        else:
            columns[name] = column.cast(pa.float32()).to_numpy(zero_copy_only=False).astype(np.float32)
    return uids or [], columns
