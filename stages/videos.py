"""Frames of a video as pictures: which are shown is decided by `models.preprocess`, PyAV decodes them."""

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from PIL import Image

from models.preprocess import frame_indices
from stages.pictures import PictureError, picture_of

MAX_PIXELS = 1 << 26
"""Of one frame; larger than 8K."""
# Containers that hold their own data. A playlist would make the decoder open whatever file or address it names.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,ogg,flv,asf"
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class VideoError(ValueError):
    """A video that cannot be shown; the message says why."""


def sample_frames(
    video: str | Path | bytes,
    count: int,
    *,
    first: float | None = None,
    last: float | None = None,
    generator: np.random.Generator | None = None,
) -> list[Image.Image]:
    """Return frames of a video in their order, one from each of `count` equal segments.

    Args:
        video: A file, a folder of pictures in the order of their names, or the bytes of a file.
        count: Most frames; a shorter video is shown whole.
        first: Second at which the shown clip begins, counted from the first frame; not for folders.
        last: Second at which it ends.
        generator: Draws the frame within its segment, for training; the middle one when left out.

    Returns:
        Pictures in RGB, upright, between one and `count`.

    Raises:
        VideoError: It is missing or no video, breaks off, has no frame in the clip, or frames that are too large.
    """
    name = "the video" if isinstance(video, bytes) else str(video)
    if count < 1:
        raise VideoError(f"{count} frames of {name} cannot be shown; ask for one at least")
    if not isinstance(video, bytes) and Path(video).is_dir():
        if first is not None or last is not None:
            raise VideoError(f"{name} is a folder of pictures, which have no time; leave out where the clip begins")
        return _of_folder(Path(video), count, generator)
    with open_video(video) as container:
        return _frames(container, name, count, (first, last), generator)


@contextmanager
def open_video(video: str | Path | bytes) -> Iterator[InputContainer]:
    """Open a file, or the bytes of one; what the caller then reads of it fails as a `VideoError` too.

    Raises:
        VideoError: It is missing, no video, or damaged.
    """
    name = "the video" if isinstance(video, bytes) else str(video)
    file: IO[bytes] = io.BytesIO(video) if isinstance(video, bytes) else _file(Path(video))
    with file:
        try:
            with av.open(file, "r", options={"format_whitelist": _CONTAINERS}) as container:
                yield container
        except VideoError:
            raise
        except Exception as error:
            # The library raises whatever it likes on foreign bytes, down to UnicodeDecodeError: all means the same.
            said = getattr(error, "strerror", None) or error
            raise VideoError(
                f"{name} cannot be read as a video ({said}); name an mp4, webm, mkv, mov, avi or gif file"
            ) from None


def _file(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise VideoError(f"there is no video {path} ({error.strerror}); name one that exists") from None


def _of_folder(folder: Path, count: int, generator: np.random.Generator | None) -> list[Image.Image]:
    """Return pictures of a folder: the official format writes some videos so."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if not found:
        raise VideoError(f"there is no frame in {folder}; frames are {', '.join(_PICTURES)} files in it")
    pictures = []
    for path in (found[number] for number in frame_indices(len(found), count, generator)):
        try:
            pictures.append(picture_of(path.read_bytes()))
        except (OSError, PictureError) as error:
            raise VideoError(f"frame {path} cannot be read ({error}); remove it") from None
    return pictures


def _frames(
    container: InputContainer,
    name: str,
    count: int,
    clip: tuple[float | None, float | None],
    generator: np.random.Generator | None,
) -> list[Image.Image]:
    if not container.streams.video:
        raise VideoError(f"{name} holds no pictures, only sound; name a video with frames")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise VideoError(f"pictures of {name} are in a code that is not known here; convert it to mp4")
    if stream.width * stream.height > MAX_PIXELS:
        raise VideoError(
            f"frames of {name} are {stream.width} x {stream.height}, more than {MAX_PIXELS:,} pixels; make it smaller"
        )
    stream.thread_type = "AUTO"
    times, keys = _times(container, stream)
    shown = _within(times, stream, clip)
    if not shown:
        raise VideoError(f"{name} has no frame in the clip ({len(times)} frames in all); name another file or clip")
    wanted = [shown[number] for number in frame_indices(len(shown), count, generator)]
    pictures = _decode(container, stream, wanted, keys)
    if len(pictures) < len(wanted):
        raise VideoError(
            f"{name} breaks off: {len(pictures)} of {len(wanted)} frames to show can be decoded; get it anew"
        )
    return pictures


def _times(container: InputContainer, stream: VideoStream) -> tuple[list[int], list[int]]:
    """Return when each frame is shown and when each key frame is, in the stream's unit, without decoding.

    Where a container keeps no such times they are those of the decoded frames, and there is no key to jump to.
    """
    packets = [packet for packet in container.demux(stream) if packet.size]
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    keys = sorted(packet.pts for packet in packets if packet.is_keyframe and packet.pts is not None)
    container.seek(0)
    if packets and len(times) == len(packets):
        return times, keys
    times = [frame.pts for frame in container.decode(stream) if frame.pts is not None]
    container.seek(0)
    return times, []


def _within(times: Sequence[int], stream: VideoStream, clip: tuple[float | None, float | None]) -> list[int]:
    unit = float(stream.time_base or 1)
    first, last = clip
    return [
        time
        for time in times
        if (first is None or (time - times[0]) * unit >= first) and (last is None or (time - times[0]) * unit <= last)
    ]


def _decode(
    container: InputContainer, stream: VideoStream, wanted: Sequence[int], keys: Sequence[int]
) -> list[Image.Image]:
    """Return the frames shown at these times; between them the decoder jumps from key frame to key frame.

    A frame that was lost is stood for by the next one that is there.
    """
    found: list[Image.Image] = []
    frames = container.decode(stream)
    at: int | None = None
    for time in wanted:
        before = bisect_right(keys, time) - 1
        if before >= 0 and (at is None or keys[before] > at):
            container.seek(keys[before], stream=stream)
            frames = container.decode(stream)
        for frame in frames:
            at = frame.pts
            if at is not None and at >= time:
                found.append(_upright(frame))
                break
    return found


def _upright(frame: av.VideoFrame) -> Image.Image:
    """Return a frame as players show it: phones write portrait videos lying, and beside them how to turn them."""
    picture: Image.Image = frame.to_image()
    # Both count degrees against the clock.
    return picture.rotate(90 * round(frame.rotation / 90), expand=True)
