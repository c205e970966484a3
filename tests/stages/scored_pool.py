"""A listing, its pool and a tiny untrained filtering network, as the stages before scoring leave them."""

import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from infra.storage import Store
from stages.checkpoints import publish
from stages.filtering_network import MODEL_NAME, Parameters, model_config
from stages.manifest import Ledger, Manifest
from stages.outcome_rows import OUTCOMES
from stages.pictures import decode
from stages.ref import Ref
from stages.sources.rows import SCHEMA
from stages.tars import tar_bytes
from stages.workspace import Output, parquet_bytes


def picture(seed: int, quality: int = 95, side: int = 48) -> bytes:
    """Return a picture of random patches, as a JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((side, side)).save(out, "JPEG", quality=quality)
    return out.getvalue()


class Row(NamedTuple):
    """One listed row; without a picture it was not fetched."""

    url: str
    caption: str
    image: bytes | None
    language: str | None = "en"
    host: str = "a.org"
    aesthetic: float | None = None
    stored: bytes | None = None
    sent: int | None = None

    @property
    def uid(self) -> bytes:
        """Return a name by content."""
        return hashlib.sha256(f"{self.url} {self.caption}".encode()).digest()[:16]

    @property
    def listed(self) -> dict[str, Any]:
        """Return the row of the listing."""
        url_id = hashlib.sha256(self.url.encode()).digest()[:16]
        shipped = {"source_aesthetic": self.aesthetic, "language": self.language, "caption": self.caption}
        return {"uid": self.uid, "url_id": url_id, "url": self.url, "host": self.host, **shipped}

    @property
    def outcome(self) -> dict[str, Any]:
        """Return the row of the outcomes."""
        known = {name: self.listed[name] for name in ("uid", "url_id", "host")}
        if self.image is None:
            return {**known, "outcome": "not_found"}
        found, kept = decode(self.image, 1 << 24), self.stored or self.image
        sizes = {
            "original_width": found.width,
            "original_height": found.height,
            "phash": found.phash,
            "frames": found.frames,
        }
        return {
            **known,
            **sizes,
            "outcome": "fetched",
            "bytes": len(kept),
            "sha256": hashlib.sha256(kept).hexdigest(),
            "body_bytes": self.sent or len(self.image),
            "body_sha256": hashlib.sha256(self.image).hexdigest(),
        }


def commit(store: Store, parts: Sequence[Sequence[Row]], name: str = "own") -> tuple[Manifest, Manifest]:
    """Commit the listing and the pool of some parts."""
    listing, pool = (
        Output(store=store, ref=Ref(name=f"{kind}/{name}", version="v1"), stage=stage, identity={})
        for kind, stage in (("listing", "list_urls"), ("pool", "download"))
    )
    listed, fetched = [], []
    for number, rows in enumerate(parts):
        key, digest = f"{number:06d}", f"{number:064d}"
        table = pa.Table.from_pylist([row.listed for row in rows], schema=SCHEMA)
        outcomes = pa.Table.from_pylist([row.outcome for row in rows], schema=OUTCOMES).sort_by("uid")
        kept = sorted((row for row in rows if row.image), key=lambda row: row.uid)
        tar = tar_bytes(
            (row.uid.hex(), {"jpg": row.stored or row.image or b"", "txt": row.caption.encode()}) for row in kept
        )
        whole = Ledger(listed=len(rows), kept=len(rows))
        listed.append(listing.part(key, digest, whole, {"rows": (f"{key}.parquet", parquet_bytes(table))}))
        ledger = Ledger(listed=len(rows), kept=len(kept), failed=len(rows) - len(kept))
        files = {"outcomes": (f"{key}.parquet", parquet_bytes(outcomes)), "pictures": (f"{key}.tar", tar)}
        fetched.append(pool.part(key, digest, ledger, files))
    return listing.commit(listed), pool.commit(fetched)


def network(store: Store) -> Manifest:
    """Commit an untrained network: its embeddings are as good as any to be compared."""
    import open_clip

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = model_config(Parameters(hidden_size=32, num_hidden_layers=1, embed_dim=16))
    weights = io.BytesIO()
    torch.save(open_clip.CLIP(**config).state_dict(), weights)
    name = "checkpoints/filtering_network"
    output = Output(store=store, ref=Ref(name=name, version="v1"), stage="filtering_network", identity={})
    files: dict[str, tuple[str, Any]] = {
        "config": (f"{MODEL_NAME}.json", json.dumps(config).encode()),
        "weights": (f"{MODEL_NAME}.pt", weights.getvalue()),
    }
    names = {"config": f"{MODEL_NAME}.json", "weights": f"{MODEL_NAME}.pt"}
    return output.commit([publish(output, "0" * 64, files, 1, {"names": names})])
