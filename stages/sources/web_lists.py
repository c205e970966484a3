"""The url lists of the small web, each in the shape of the dataset that it stands for."""

import csv
import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.sources.web_site import SiteSpec, plan_site


def publish(spec: SiteSpec, folder: Path) -> dict[str, Path]:
    """Write the url list of each source in its real shape, and `truth.parquet`; return the lists by source."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = plan_site(spec)
    pq.write_table(truth, folder / "truth.parquet", compression="zstd")
    lists: dict[str, Path] = {}
    for source in spec.rows:
        table = truth.filter(pa.compute.equal(truth["source"], source))
        lists[source] = _WRITERS[source](table, folder)
    return lists


def _laion(table: pa.Table, path: Path, language: bool) -> Path:
    """Shape of laion2B-en-joined and -multi-joined, with the aesthetic column."""
    hashes = [int.from_bytes(hashlib.sha256(u.encode()).digest()[:7], "big") for u in table["url"].to_pylist()]
    columns: dict[str, Any] = {
        "URL": table["url"],
        "TEXT": table["caption"],
        "WIDTH": table["width"],
        "HEIGHT": table["height"],
        "similarity": table["similarity"].cast(pa.float64()),
        "hash": pa.array(hashes, pa.int64()),
        "punsafe": table["unsafe"],
        "pwatermark": table["watermark"],
        "AESTHETIC_SCORE": table["aesthetic"],
    }
    if language:
        columns["LANGUAGE"] = table["language"]
    pq.write_table(pa.table(columns), path, compression="snappy")
    return path


def _coyo(table: pa.Table, path: Path) -> Path:
    """Shape of coyo-700m."""
    texts = table["caption"].to_pylist()
    columns = {
        "id": pa.array(range(len(texts)), pa.int64()),
        "url": table["url"],
        "text": table["caption"],
        "width": table["width"],
        "height": table["height"],
        "image_phash": pa.array([hashlib.sha256(u.encode()).hexdigest()[:16] for u in table["url"].to_pylist()]),
        "text_length": pa.array([len(t) for t in texts], pa.int32()),
        "word_count": pa.array([len(t.split()) for t in texts], pa.int32()),
        "clip_similarity_vitb32": table["similarity"],
        "clip_similarity_vitl14": table["similarity"],
        "nsfw_score_opennsfw2": table["unsafe"],
        "watermark_score": table["watermark"],
        "aesthetic_score_laion_v2": table["aesthetic"],
    }
    pq.write_table(pa.table(columns), path, compression="snappy")
    return path


def _delimited(table: pa.Table, path: Path, delimiter: str, order: tuple[str, str], header: bool) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        if header:
            writer.writerow(order)
        writer.writerows(zip(*(table[name].to_pylist() for name in order), strict=True))
    return path


_WRITERS = {
    "laion_en": lambda table, folder: _laion(table, folder / "laion_en.parquet", language=False),
    "laion_multi": lambda table, folder: _laion(table, folder / "laion_multi.parquet", language=True),
    "coyo": lambda table, folder: _coyo(table, folder / "coyo.parquet"),
    # CC3M ships caption first and no header; Wukong ships a header.
    "cc3m": lambda table, folder: _delimited(table, folder / "cc3m.tsv", "\t", ("caption", "url"), header=False),
    "wukong": lambda table, folder: _delimited(table, folder / "wukong.csv", ",", ("url", "caption"), header=True),
}
