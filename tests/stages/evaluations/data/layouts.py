"""Datasets of a few small pictures, in each layout that the readers know."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.evaluations.registry import Benchmark

COLOURS = {"blue": (10, 20, 200), "green": (20, 200, 30), "red": (210, 20, 20)}


def picture(colour: str = "red", size: tuple[int, int] = (12, 8), kind: str = "PNG") -> bytes:
    """Return a file with a picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(out, kind)
    return out.getvalue()


def mask(values: Sequence[Sequence[int]]) -> bytes:
    """Return a PNG with these numbers."""
    out = io.BytesIO()
    Image.fromarray(np.array(values, np.uint8)).save(out, "PNG")
    return out.getvalue()


def lay(place: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write files below a place."""
    for name, data in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return place


def tar(path: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write a tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            body = data if isinstance(data, bytes) else data.encode()
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


def as_json(what: Any) -> str:
    """Return JSON."""
    return json.dumps(what)


def described(*formats: str, protocol: str = "zero_shot_classification", **more: Any) -> Benchmark:
    """Return a benchmark of these layouts."""
    return Benchmark.model_validate(
        {
            "name": "little",
            "title": "A little set",
            "homepage": "https://example.org",
            "licence": "ours",
            "get": "Fetch little.zip and unpack it.",
            "formats": formats,
            "rows": [{"protocol": protocol}],
            **more,
        }
    )


def class_folders(place: Path, split: str = "test", each: int = 2) -> Path:
    """Write pictures in one folder per colour."""
    return lay(
        place,
        {
            f"{split}/{name}/{number}.png": picture(name, (12 + number, 8))
            for name in COLOURS
            for number in range(each)
        },
    )
