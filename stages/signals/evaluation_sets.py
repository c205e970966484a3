"""Which pictures samples must not repeat: folders, tars, parquet files, or mere lists of hashes.

A set too large to embed again and again (ImageNet-22K) is given as a list: hashes of fourteen million pictures
are 112 MB.
"""

import csv
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from PIL import Image

from stages.manifest import ManifestError
from stages.pictures import MAX_SIDE, PictureError, decode
from stages.signals.pixels import facts_of
from stages.sources.own_pictures import SUFFIXES
from stages.sources.scenes import Split, evaluation_pictures

IMAGE_COLUMNS = ("image", "jpg", "png", "bytes")
LEAST_VARIANCE = 25.0
"""Gray variance below which a perceptual hash is the noise of a flat picture and means nothing: ours."""

_HEX = re.compile(r"^(?:[0-9a-f]{64}|[0-9a-f]{16})$")


class Reference(NamedTuple):
    """One evaluation picture, as far as it is known."""

    set: str
    image: str
    sha256: str | None = None
    phash: int | None = None
    picture: bytes | None = None

    @property
    def name(self) -> str:
        """Return what a hit is called."""
        return f"{self.set}/{self.image}"


def references(sets: Mapping[str, str]) -> Iterator[Reference]:
    """Yield the pictures of all sets, set by set in the order of their names.

    Raises:
        ManifestError: A path is missing, of an unknown kind, or holds neither pictures nor hashes.
    """
    for name, path in sorted(sets.items()):
        found = False
        for reference in _of(name, Path(path)):
            found = True
            yield reference
        if not found:
            raise ManifestError(f"evaluation set {name}: {path} holds no picture and no hash; take it out or fill it")


def drawn(scenes: int, size: int, seed: int) -> Iterator[Reference]:
    """Yield evaluation scenes of the drawn world, without perceptual hash: all scenes look alike to one."""
    for split in (Split.IID, Split.UNSEEN):
        # Drawn large and made small, as the web's pictures are on their way into the pool.
        for number, (image, _) in enumerate(evaluation_pictures(split, scenes, seed, 2 * size)):
            out = io.BytesIO()
            image.resize((size, size), Image.Resampling.BOX).save(out, "JPEG", quality=95)
            yield Reference(f"scenes_{split}", f"{number:08d}", picture=out.getvalue())


def _of(name: str, path: Path) -> Iterator[Reference]:
    suffix = path.suffix.lower()
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.suffix.lower() in SUFFIXES:
                yield _pictured(name, str(file.relative_to(path)), file.read_bytes())
    elif not path.is_file():
        raise ManifestError(f"evaluation set {name}: there is no {path}; give a folder, tar, parquet or list")
    elif suffix == ".parquet":
        yield from _of_parquet(name, path)
    elif suffix in (".csv", ".tsv", ".txt"):
        yield from _of_list(name, path)
    else:
        yield from _of_tar(name, path)


def _of_tar(name: str, path: Path) -> Iterator[Reference]:
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and member.name.lower().endswith(SUFFIXES) and (file := tar.extractfile(member)):
                    yield _pictured(name, member.name, file.read())
    except tarfile.TarError as error:
        raise ManifestError(f"evaluation set {name}: {path} cannot be read as a tar: {error}") from error


def _of_parquet(name: str, path: Path) -> Iterator[Reference]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        row = 0
        for batch in file.iter_batches(256):
            for each in batch.to_pylist():
                picture = next((each[column] for column in IMAGE_COLUMNS if each.get(column) is not None), None)
                if isinstance(picture, dict):
                    picture = picture.get("bytes")
                if isinstance(picture, bytes):
                    yield _pictured(name, str(each.get("name") or each.get("path") or f"{row:08d}"), picture)
                elif {"sha256", "phash"} & set(names):
                    yield _listed(name, row, each, path)
                else:
                    raise ManifestError(
                        f"evaluation set {name}: {path} has no bytes in a column {', '.join(IMAGE_COLUMNS)} and no "
                        f"column sha256 or phash, only {', '.join(names)}"
                    )
                row += 1


def _of_list(name: str, path: Path) -> Iterator[Reference]:
    with path.open(newline="", encoding="utf-8") as file:
        first = file.readline()
        file.seek(0)
        if _HEX.match(first.strip().lower()):
            for row, line in enumerate(file):
                if text := line.strip().lower():
                    yield _listed(name, row, {"sha256" if len(text) == 64 else "phash": text}, path)
            return
        for row, each in enumerate(csv.DictReader(file, delimiter="\t" if "\t" in first else ",")):
            yield _listed(name, row, each, path)


def _listed(name: str, row: int, fields: Mapping[str, Any], path: Path) -> Reference:
    sha256, phash = fields.get("sha256") or None, fields.get("phash")
    texts = [sha256, None if phash is None or isinstance(phash, int) else phash or None]
    if any(text is not None and not _HEX.match(str(text).lower()) for text in texts) or (
        sha256 is None and phash in (None, "")
    ):
        raise ManifestError(
            f"evaluation set {name}: row {row} of {path} holds neither a sha256 (64 hexadecimal digits) nor a phash "
            "(16); name the columns sha256, phash and, if you like, image"
        )
    number = phash if isinstance(phash, int) else int(phash, 16) if phash else None
    return Reference(name, str(fields.get("image") or f"{row:08d}"), sha256 and str(sha256).lower(), number)


def _pictured(name: str, image: str, picture: bytes) -> Reference:
    """Return a picture with its hashes; a flat one, or one that cannot be decoded, has no perceptual hash."""
    sha256 = hashlib.sha256(picture).hexdigest()
    try:
        decoded = decode(picture, MAX_SIDE * MAX_SIDE)
    except PictureError:
        return Reference(name, image, sha256)
    flat = facts_of(decoded.pixels).gray_variance < LEAST_VARIANCE
    return Reference(name, image, sha256, None if flat else decoded.phash, picture)
