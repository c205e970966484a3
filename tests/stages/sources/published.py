"""Small lists in exactly the schema of each published dataset, with the nulls and the defects that these have."""

import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Columns = list[tuple[str, pa.DataType]]
S, L, I, D, F = pa.string(), pa.int64(), pa.int32(), pa.float64(), pa.float32()  # noqa: E741

LAION = [("SAMPLE_ID", L), ("URL", S), ("TEXT", S), ("HEIGHT", I), ("WIDTH", I), ("LICENSE", S)]
LAION_END = [("NSFW", S), ("similarity", D)]
JOINED = [("URL", S), ("TEXT", S), ("WIDTH", I), ("HEIGHT", I), ("similarity", D)]
JOINED_END = [("hash", L), ("pwatermark", F), ("punsafe", F)]
LANGUAGE, AESTHETIC = [("LANGUAGE", S)], [("AESTHETIC_SCORE", F)]

RE_LAION: Columns = [
    ("url", S),
    ("caption", S),
    ("width", L),
    ("height", L),
    ("similarity", D),
    ("language", S),
    ("pwatermark", D),
    ("punsafe", D),
    ("aesthetic", D),
]
LAION_COCO: Columns = [
    ("URL", S),
    ("TEXT", S),
    ("top_caption", S),
    ("all_captions", pa.list_(S)),
    ("all_similarities", pa.list_(D)),
    ("WIDTH", L),
    ("HEIGHT", L),
    ("similarity", D),
    ("hash", L),
    ("pwatermark", D),
    ("punsafe", D),
]
COYO: Columns = [
    ("id", L),
    ("url", S),
    ("text", S),
    ("width", I),
    ("height", I),
    ("image_phash", S),
    ("text_length", I),
    ("word_count", I),
    ("num_tokens_bert", I),
    ("num_tokens_gpt", I),
    ("num_faces", I),
    ("clip_similarity_vitb32", F),
    ("clip_similarity_vitl14", F),
    ("nsfw_score_opennsfw2", F),
    ("nsfw_score_gantman", F),
    ("watermark_score", F),
    ("aesthetic_score_laion_v2", F),
]

PARQUET = {
    "laion2b_en": LAION + LAION_END,
    "laion2b_multi": LAION + LANGUAGE + LAION_END,
    "laion2b_en_joined": JOINED + JOINED_END,
    "laion2b_multi_joined": JOINED + LANGUAGE + JOINED_END,
    "laion2b_en_aesthetic": JOINED + JOINED_END + AESTHETIC,
    "laion2b_multi_aesthetic": JOINED + LANGUAGE + JOINED_END + AESTHETIC,
    "re_laion": RE_LAION,
    "laion_coco": LAION_COCO,
    "coyo": COYO,
}
"""Columns and types as published, in their order; written here a second time, so that the catalogue is checked."""

DELIMITED = {
    "wukong": (",", ("dir", "url", "caption")),
    "cc3m": ("\t", ("caption", "url")),
    "cc12m": ("\t", ("url", "caption")),
}
ROWS = 12
NO_CAPTION, NO_URL, REPEAT = 3, 5, 7
"""Rows that cannot be listed: without caption, without address, and one that comes a second time."""
WIDE, HIGH = 640, 480
SWAPPED = ("laion2b_en", "laion2b_multi")
URLS, CAPTIONS = ("URL", "url", "image_urls"), ("TEXT", "caption", "text", "top_caption", "captions")


def url(row: int) -> str:
    return f"https://pictures.example.com/{0 if row == REPEAT else row}.jpg"


def caption(row: int) -> str:
    return f'A "quoted" picture, number {0 if row == REPEAT else row}, ä图.'


def value(source: str, column: str, row: int) -> Any:
    """Return what a column holds in a row."""
    if column in URLS:
        return None if row == NO_URL else url(row)
    if source == "laion_coco" and column == "TEXT":
        return f"alt {row}"
    if column in CAPTIONS:
        return None if row == NO_CAPTION else caption(row)
    if column.lower() in ("width", "height"):
        wide = (column.lower() == "width") != (source in SWAPPED)
        return None if row == 9 else WIDE if wide else HIGH
    fixed = {"LICENSE": "?", "NSFW": "UNLIKELY", "LANGUAGE": "de", "language": "de", "image_phash": "c3d5" * 4}
    if column in fixed:
        return "cc-by" if column == "LICENSE" and row == 1 else fixed[column]
    if column in ("pwatermark", "watermark_score"):
        return {1: 0.5, 2: math.nan, 4: None}.get(row, 0.25)
    lists = {"all_captions": ["a", "b"], "all_similarities": [0.1, 0.2]}
    if column in lists:
        return lists[column]
    whole = ("SAMPLE_ID", "hash", "id", "text_length", "word_count", "num_tokens_bert", "num_tokens_gpt", "num_faces")
    return row if column in whole else None if row == 4 else math.nan if row == 6 else 0.375


def table(source: str) -> pa.Table:
    """Return a parquet source's rows."""
    schema = pa.schema(PARQUET[source])
    return pa.table(
        {
            name: pa.array([value(source, name, row) for row in range(ROWS)], schema.field(name).type)
            for name in schema.names
        }
    )


def write(source: str, folder: Path) -> Path:
    """Write a source as it is published; return the file."""
    if source in PARQUET:
        path = folder / f"part-00000-{source}.snappy.parquet"
        pq.write_table(table(source), path, compression="snappy", row_group_size=5)
        return path
    if source == "sbu":
        path = folder / "sbu-captions-all.tar.gz"
        lists = {
            name: [value("sbu", name, row) if name != "user_ids" else "7@N0" for row in range(ROWS)]
            for name in ("image_urls", "user_ids", "captions")
        }
        data = json.dumps(lists).encode()
        with tarfile.open(path, "w:gz") as tar:
            member = tarfile.TarInfo("sbu-captions-all.json")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        return path
    delimiter, names = DELIMITED[source]
    path = folder / (f"{source}.csv" if delimiter == "," else f"{source}.tsv")
    lines = [delimiter.join(names)] if delimiter == "," else []
    for row in range(ROWS):
        texts = [str(value(source, name, row) or "") if name != "dir" else "0" for name in names]
        # Google's files quote nothing; csv does.
        quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
        lines.append(delimiter.join(quoted if delimiter == "," else texts))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
