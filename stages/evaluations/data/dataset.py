"""A benchmark's data, opened: truths are known at once, pictures are read when they are asked for."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.evaluations.base import Question
from stages.evaluations.data.hashing import MISSING, Hashes, Progress, quiet
from stages.evaluations.data.rows import Body, Found, Row
from stages.evaluations.registry import Reading
from stages.manifest import ManifestError
from stages.pictures import PictureError, inspect, picture_of

MAX_PIXELS = 1 << 26
"""Of one picture: 8192 x 8192; a page scanned at 600 dots an inch has half as many."""
NOWHERE = 255
"""Value of a mask's pixel that counts nowhere."""
_VERSION = "examples 1"
_TOLD_EVERY = 256


class Unreadable(ManifestError):
    """One picture, video or mask cannot be shown; the message names its example and says why."""


class Dataset:
    """The examples of one split: what every protocol is handed (`stages.evaluations.base.Examples`)."""

    def __init__(
        self,
        found: Found,
        reading: Reading,
        place: Path,
        *,
        cache: Path | None = None,
        progress: Progress = quiet,
        training: "Callable[[], Dataset] | None" = None,
    ) -> None:
        """Take what a reader found.

        Raises:
            ManifestError: Two examples have the same key, or a key is no text.
        """
        self.rows: Sequence[Row] = found.rows
        self.classes: Sequence[str] = found.classes
        self.class_ids: Sequence[str] = found.class_ids
        self.templates: Sequence[str] = found.templates
        self.notes: list[str] = list(found.notes)
        self.unreadable: dict[str, str] = {}
        self._reading, self._place, self._cache, self._progress = reading, place, cache, progress
        self._training = training
        seen: set[str] = set()
        for row in found.rows:
            if not _is_text(row.key):
                raise ManifestError(
                    f"an example of {place} is called {row.key!r}, which is no UTF-8; rename its file"
                )
            if row.key in seen:
                raise ManifestError(
                    f"two examples of {place} are called {row.key!r}; give each one a name of its own"
                )
            seen.add(row.key)

    def __len__(self) -> int:
        """Return how many examples there are."""
        return len(self.rows)

    @cached_property
    def digest(self) -> str:
        """Return a SHA-256 over bytes, order and truths; it does not tell where the dataset lies."""
        hashes, whole = Hashes(self._place, self._cache), hashlib.sha256(_VERSION.encode())
        reading = [list(self._reading.ignore), self._reading.first_class]
        whole.update(json.dumps([list(self.classes), list(self.class_ids), list(self.templates), reading]).encode())
        for number, row in enumerate(self.rows):
            if number % _TOLD_EVERY == 0:
                self._progress(number, len(self.rows), "examples hashed")
            said = [
                row.key, [_identity(body, hashes) for body in row.bodies], row.labels, row.captions, row.question,
                _identity(row.mask, hashes) if row.mask else None, row.video, row.clip,
            ]  # fmt: skip
            whole.update(b"\n" + json.dumps(said).encode())
        hashes.keep()
        self._progress(len(self.rows), len(self.rows), "examples hashed")
        return whole.hexdigest()

    def key(self, number: int) -> str:
        """Return a name of an example that is the same wherever its dataset lies."""
        return self.rows[number].key

    def pictures(self, number: int, frames: int = 1) -> list[Image.Image]:
        """Return what an example shows, in RGB and upright: its pictures, or `frames` moments of its video.

        A video shorter than that gives the frames it has; a question without a picture gives none.

        Raises:
            Unreadable: One of them cannot be shown.
        """
        row = self.rows[number]
        if row.video:
            return self._frames(row, frames)
        return [_picture(row.key, body) for body in row.bodies]

    def label(self, number: int) -> int:
        """Return the number of the right class, the first where several are right.

        Raises:
            ManifestError: The data say none.
        """
        row = self.rows[number]
        if not row.labels:
            raise ManifestError(f"{row.key} of {self._place} has no class; see `internvl benchmarks` for the layout")
        return row.labels[0]

    def right_labels(self, number: int) -> Sequence[int]:
        """Return all classes that count as right: one, but for labels such as ImageNet-ReaL's."""
        return self.rows[number].labels

    def training(self) -> "Dataset":
        """Return what a head is trained on before it is measured on these examples.

        Raises:
            ManifestError: It is not there.
        """
        if self._training is None:
            raise ManifestError(f"{self._place} is itself what heads are trained on; open its test split")
        return self._training()

    def captions(self, number: int) -> Sequence[str]:
        """Return all captions of an example; none where the data have no captions."""
        return self.rows[number].captions

    def question(self, number: int) -> Question:
        """Return what is asked about an example.

        Raises:
            ManifestError: The data ask nothing.
        """
        row = self.rows[number]
        if row.question is None:
            raise ManifestError(f"nothing is asked about {row.key} of {self._place}; see `internvl benchmarks`")
        return row.question

    def mask(self, number: int) -> npt.NDArray[np.uint8]:
        """Return the class of each pixel, shape (height, width); 255 counts nowhere.

        Raises:
            ManifestError: The data have no masks.
            Unreadable: This one cannot be decoded, or has a value that is no class.
        """
        row = self.rows[number]
        if row.mask is None:
            raise ManifestError(f"{row.key} of {self._place} has no mask; see `internvl benchmarks` for the layout")
        values = _mask(row.key, row.mask)
        out = np.full(values.shape, NOWHERE, np.uint8)
        counted = (values >= self._reading.first_class) & ~np.isin(values, self._reading.ignore)
        out[counted] = values[counted] - self._reading.first_class
        worst = int(out[counted].max(initial=0))
        if self.classes and worst >= len(self.classes):
            raise Unreadable(
                f"the mask of {row.key} has the value {worst + self._reading.first_class}, but there are "
                f"{len(self.classes)} classes; name values that count nowhere as reading.ignore"
            )
        return out

    def subset(self, numbers: Sequence[int]) -> "Dataset":
        """Return some of the examples, in the order given; its digest is of them alone."""
        found = Found([self.rows[number] for number in numbers], tuple(self.classes), tuple(self.class_ids))
        chosen = Dataset(
            found._replace(templates=tuple(self.templates), notes=tuple(self.notes)), self._reading, self._place,
            cache=self._cache, progress=self._progress, training=self._training,
        )  # fmt: skip
        chosen.unreadable = dict(self.unreadable)
        return chosen

    def _frames(self, row: Row, frames: int) -> list[Image.Image]:
        from stages.videos import VideoError, sample_frames

        body = row.bodies[0]
        first, last = row.clip or (None, None)
        try:
            return sample_frames(body.read() if body.position else body.file, frames, first=first, last=last)
        except (OSError, VideoError) as error:
            raise Unreadable(f"the video {row.key} cannot be shown: {error}") from None


def _is_text(key: str) -> bool:
    """Say whether a name can be written: file systems allow bytes that are no UTF-8."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _identity(body: Body, hashes: Hashes) -> str:
    digest = hashes.of(body.file)
    return digest if digest == MISSING or not body.position else f"{digest} {body.position}"


def _bytes(key: str, body: Body) -> bytes:
    try:
        return body.read()
    except OSError as error:
        raise Unreadable(f"{key} cannot be read: {error.strerror or error} ({body.file.name})") from None


def _picture(key: str, body: Body) -> Image.Image:
    data = _bytes(key, body)
    try:
        return picture_of(data, MAX_PIXELS)
    except PictureError as error:
        raise Unreadable(f"{key} is no picture that can be shown: {error.outcome} ({body.file.name})") from None


def _mask(key: str, body: Body) -> npt.NDArray[np.int64]:
    """Return the numbers of a mask as they are stored: gray or palette, 8 or 16 bit, never a colour."""
    data = _bytes(key, body)
    if reason := inspect(data, MAX_PIXELS):
        raise Unreadable(f"the mask of {key} cannot be decoded: {reason} ({body.file.name})")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "BMP", "GIF")) as image:
            values = np.asarray(image)
    except Exception as error:
        # The library raises whatever it likes on foreign bytes; all of it means the same.
        raise Unreadable(
            f"the mask of {key} cannot be decoded: {type(error).__name__}; masks are PNG, one number a pixel"
        ) from None
    if values.ndim != 2:
        raise Unreadable(f"the mask of {key} is in colour; masks are gray or palette PNG, one class number a pixel")
    return values.astype(np.int64)
