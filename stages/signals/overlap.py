"""Which samples repeat an evaluation picture: the same bytes, nearly the same look, or nearly the same embedding.

The paper removes duplicates of ImageNet, Flickr30K and COCO and names no method (arXiv:2312.14238, appendix);
the three tiers are those of COYO-700M and DataComp. Embeddings are indexed by `clip-retrieval`'s indexer.
"""

import io
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.lean import lean_package
from stages.manifest import File, Ledger, Manifest, digest_of
from stages.signals.column_files import Halves
from stages.signals.embedding import Floats, Tower, embed, unit
from stages.signals.evaluation_sets import Reference
from stages.signals.perceptual import Nearest
from stages.tars import tar_bytes
from stages.workspace import Output, parquet_bytes, read_file

AT_ONCE = 2_048
"""Evaluation pictures that are embedded together."""

SCHEMA = pa.schema([("name", pa.string()), ("sha256", pa.string()), ("phash", pa.uint64()), ("row", pa.int64())])
"""A reference; `row` is where its embedding stands in the index."""
LEAST_BITS = 24
"""Half of a hash's bits stand above the median; with far fewer the picture is flat, and like all flat ones."""


class Index(NamedTuple):
    """The published index: a table of names and hashes, and the faiss file of those that were embedded."""

    table: File
    faiss: File | None

    @property
    def digest(self) -> str:
        """Return what decides its answers beside the model, which may round otherwise on another machine."""
        return self.table.sha256


class Hits(NamedTuple):
    """Per sample: the cosine to the nearest evaluation picture (1 for a copy), and the name of what it hits."""

    similarity: Floats
    names: list[str | None]


def publish_index(found: Iterable[Reference], tower: Tower, output: Output, scratch: Path) -> Index | None:
    """Hash and embed all references and publish the index; None where there is none."""
    tables: list[pa.Table] = []
    embeddings: list[Floats] = []
    items = iter(found)
    while some := list(islice(items, AT_ONCE)):
        rows: list[dict[str, Any]] = [{"name": e.name, "sha256": e.sha256, "phash": e.phash} for e in some]
        keys, vectors = _embedded(some, tower, output)
        before = sum(len(each) for each in embeddings)
        for number, key in enumerate(keys):
            rows[key]["row"] = before + number
        embeddings += [vectors] if keys else []
        tables.append(pa.Table.from_pylist(rows, schema=SCHEMA))
    if not tables:
        return None
    table = output.file("index/evaluation.parquet", parquet_bytes(pa.concat_tables(tables)))
    if not embeddings:
        return Index(table, None)
    return Index(table, output.file("index/evaluation.index", build_index(np.concatenate(embeddings), scratch)))


def _embedded(some: list[Reference], tower: Tower, output: Output) -> tuple[list[int], Floats]:
    """Return which references have an embedding, and the embeddings in that order."""
    pictures = [(f"{n:08d}", {"jpg": each.picture}) for n, each in enumerate(some) if each.picture]
    if not pictures:
        return [], np.zeros((0, 0), dtype=np.float32)
    found = embed(tar_bytes(pictures), tower.name(output.store), tower.batch_size, text=False)
    fine = np.flatnonzero(np.isfinite(found.images).all(axis=1))
    return [int(found.keys[row]) for row in fine], unit(found.images[fine])


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


class Overlap:
    """An index in memory, to be asked part by part."""

    def __init__(self, table: pa.Table, faiss_index: bytes | None) -> None:
        """Sort the hashes and open the index."""
        hashed = table.filter(pc.is_valid(table["sha256"]))
        self._hashes, self._hashed_names = hashed["sha256"].combine_chunks(), hashed["name"].combine_chunks()
        looked = table.filter(pc.is_valid(table["phash"]))
        looked = looked.filter(pa.array(np.bitwise_count(looked["phash"].to_numpy()) >= LEAST_BITS))
        self._nearest = Nearest(looked["phash"].to_numpy()) if looked.num_rows else None
        self._looked_names = looked["name"].combine_chunks()
        embedded = table.filter(pc.is_valid(table["row"])).sort_by("row")
        self._embedded_names = embedded["name"].combine_chunks()
        self._faiss: Any = None
        if faiss_index is not None:
            import faiss

            faiss.omp_set_num_threads(1)
            self._faiss = faiss.deserialize_index(np.frombuffer(faiss_index, dtype=np.uint8))

    def find(self, outcomes: pa.Table, images: Halves, least_cosine: float) -> Hits:
        """Return what each row of a part hits, exact copies before near ones before embeddings.

        Args:
            outcomes: With the hashes of what the web sent and of what is stored.
            images: Embeddings of the rows, NaN where there is none.
            least_cosine: From which cosine on an embedding alone is named as a hit.
        """
        similarity = np.full(outcomes.num_rows, np.nan, dtype=np.float32)
        names: list[str | None] = [None] * outcomes.num_rows
        rows = np.flatnonzero(np.isfinite(images).all(axis=1)) if images.shape[1] else np.zeros(0, dtype=np.int64)
        if self._faiss is not None and len(rows):
            cosines, places = self._faiss.search(unit(images[rows]), 1)
            similarity[rows] = cosines[:, 0]
            for hit, cosine, place in zip(rows, cosines[:, 0], places[:, 0], strict=True):
                if cosine >= least_cosine:
                    names[hit] = self._embedded_names[int(place)].as_py()
        for row, name in self._alike(outcomes).items():
            similarity[row], names[row] = 1.0, name
        return Hits(similarity, names)

    def _alike(self, outcomes: pa.Table) -> dict[int, str]:
        found: dict[int, str] = {}
        if self._nearest is not None:
            known = np.flatnonzero(pc.is_valid(outcomes["phash"]).to_numpy())
            nearest = self._nearest.find(outcomes["phash"].fill_null(0).to_numpy()[known])
            found |= {
                int(row): self._looked_names[int(n)].as_py() for row, n in zip(known, nearest, strict=True) if n >= 0
            }
        if len(self._hashes):
            for column in ("sha256", "body_sha256"):
                places = pc.index_in(outcomes[column], self._hashes, skip_nulls=True).to_pylist()
                found |= {
                    row: self._hashed_names[place].as_py() for row, place in enumerate(places) if place is not None
                }
        return found


_OPEN: dict[str, Overlap] = {}
"""The one index that this process has in memory."""


def open_index(output: Output, index: Index) -> Overlap:
    """Return a published index, kept in memory for the next part."""
    digest = digest_of([file.sha256 for file in (index.table, index.faiss) if file])
    if digest not in _OPEN:
        own = _own(output)
        table = pq.read_table(io.BytesIO(read_file(output.store, own, index.table)))
        found = Overlap(table, read_file(output.store, own, index.faiss) if index.faiss else None)
        _OPEN.clear()
        _OPEN[digest] = found
    return _OPEN[digest]


def _own(output: Output) -> Manifest:
    """Return a manifest that only names this artifact, to read a file published before the real one stands."""
    return Manifest(
        ref=output.ref, stage=output.stage, identity=output.identity, ledger=Ledger(listed=0, kept=0), parts=()
    )
