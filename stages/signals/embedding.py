"""CLIP embeddings of pictures and captions by `clip-retrieval`'s reader, mapper and writer, inside our tasks.

Rows are aligned by key, never by position. What cannot be read has no row: one broken picture
costs itself, not its part.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage import Store, sha256_file
from stages.checkpoints import fetch
from stages.filtering_network import MODEL_NAME
from stages.lean import lean_package, without
from stages.manifest import Manifest, ManifestError
from stages.signals.column_files import Halves

Floats = npt.NDArray[np.float32]


class Tower(NamedTuple):
    """The CLIP that scores: a pre-trained one by name, or the filtering network of this store."""

    clip_model: str | None
    network: Manifest | None
    batch_size: int

    def facts(self) -> dict[str, str]:
        """Return the model's name and the hash of its weights, of the file or of all numbers in the model."""
        if self.network is not None:
            return {"model": MODEL_NAME, "weights_sha256": self.network.parts[0].files["weights"].sha256}
        assert self.clip_model is not None
        path = Path("/" + self.clip_model.partition("//")[2])
        digest = sha256_file(path) if path.is_file() else state_sha256(_load(self.clip_model)[0])
        return {"model": self.clip_model, "weights_sha256": digest}

    def name(self, store: Store) -> str:
        """Return the model's name for clip-retrieval, its files brought here first."""
        if self.clip_model is not None:
            return self.clip_model
        assert self.network is not None
        return _registered(store, self.network)


class Embedded(NamedTuple):
    """Rows as clip-retrieval gave them: float16, shape (rows, width)."""

    keys: list[str]
    images: Halves
    texts: Halves | None


# Where the filtering networks lie that this process has brought here; the folders go with the process.
_HERE: dict[str, tuple["tempfile.TemporaryDirectory[str]", str]] = {}


def _registered(store: Store, network: Manifest) -> str:
    """Register the filtering network in this process, once, and return its name for clip-retrieval."""
    import open_clip

    if network.digest not in _HERE:
        kept = tempfile.TemporaryDirectory(prefix="internvl-network-")
        folder = fetch(store, network, Path(kept.name))
        _HERE[network.digest] = kept, f"open_clip:{MODEL_NAME}/{folder / MODEL_NAME}.pt"
    kept, name = _HERE[network.digest]
    # open_clip knows models by name alone, and another network of that name may have come meanwhile.
    open_clip.add_model_config(Path(kept.name) / f"{MODEL_NAME}.json")
    return name


def _load(clip_model: str) -> tuple[Any, Any, Any]:
    """Return (model, preprocess, tokenizer), which all_clip keeps in memory."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from all_clip import load_clip

    found: tuple[Any, Any, Any] = load_clip(
        clip_model=clip_model, use_jit=False, warmup_batch_size=1, clip_cache_path=None
    )
    return found


def state_sha256(model: Any) -> str:
    """Return the hash of a model's weights by name, for one whose file a library keeps to itself."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        plain = np.ascontiguousarray(tensor.detach().cpu().float().numpy())
        digest.update(f"{name} {plain.shape} ".encode())
        digest.update(plain.data)
    return digest.hexdigest()


class _Silent:
    """clip-retrieval's logger starts processes of its own; progress is ours to report."""

    def start(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def __call__(self, stats: dict[str, Any]) -> None:
        """Do nothing."""


def embed(tar: bytes, clip_model: str, batch_size: int, text: bool) -> Embedded:
    """Return the embeddings of a WebDataset tar; samples that cannot be read are left out.

    Raises:
        ManifestError: clip-retrieval wrote other rows than it named.
    """
    import torch

    lean_package("clip_retrieval")
    lean_package("clip_retrieval.clip_inference")
    # Only its multilingual text models come from there; multilingual open_clip models need none of them.
    with without("sentence_transformers", SentenceTransformer=None):
        from clip_retrieval.clip_inference.mapper import ClipMapper
    from clip_retrieval.clip_inference.reader import WebdatasetReader
    from clip_retrieval.clip_inference.runner import Runner
    from clip_retrieval.clip_inference.writer import NumpyWriter

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    _, preprocess, tokenizer = _load(clip_model)
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
        return read_embedded(Path(folder) / "out", text)


def read_embedded(folder: Path, text: bool) -> Embedded:
    """Read what clip-retrieval wrote; pickled objects are refused, and rows must be as many as keys.

    Raises:
        ManifestError: They are not, or a file is no plain array.
    """
    names = [pq.read_table(file) for file in sorted((folder / "metadata").glob("*.parquet"))]
    keys = [str(name) for name in pa.concat_tables(names)["image_path"].to_pylist()] if names else []
    images = _arrays(folder / "img_emb")
    texts = _arrays(folder / "text_emb") if text else None
    for what, rows in (("picture", images), ("caption", texts)):
        if rows is not None and len(rows) != len(keys):
            raise ManifestError(
                f"clip-retrieval gave {len(rows)} {what} embeddings for {len(keys)} keys; refusing to guess rows"
            )
    if len(set(keys)) != len(keys):
        raise ManifestError("clip-retrieval named a sample twice; refusing to guess rows")
    return Embedded(keys, images, texts)


def _arrays(folder: Path) -> Halves:
    try:
        found = [np.load(file, allow_pickle=False) for file in sorted(folder.glob("*.npy"))]
    except ValueError as error:
        raise ManifestError(f"{folder.name} of clip-retrieval is no plain array ({error}); score again") from error
    return np.concatenate(found).astype(np.float16) if found else np.zeros((0, 0), dtype=np.float16)


def aligned(rows: Halves, keys: Sequence[str], wanted: Sequence[str]) -> Halves:
    """Return one row per wanted key, NaN where there is none, shape (wanted, width).

    Raises:
        ManifestError: There is a key that nobody wants: the pictures belong to other rows.
    """
    place = {key: number for number, key in enumerate(wanted)}
    if strange := [key for key in keys if key not in place]:
        raise ManifestError(f"sample {strange[0]} has a picture and no outcome; verify the pool artifact")
    found = np.full((len(wanted), rows.shape[1]), np.nan, dtype=np.float16)
    found[[place[key] for key in keys]] = rows
    return found


def unit(rows: npt.NDArray[Any]) -> Floats:
    """Return rows of unit length in float32."""
    found = rows.astype(np.float32)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6), dtype=np.float32)
