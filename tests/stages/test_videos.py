"""Frames of videos: the right ones, from every kind of file, and a clear word for what is none."""

import io
import struct
import tarfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from models.preprocess import frame_indices
from stages.videos import VideoError, sample_frames

VIDEOS = Path(__file__).resolve().parents[3] / "shared/data/videos.tar"


def video(
    path: Path,
    frames: int = 20,
    codec: str = "mpeg4",
    rate: int = 10,
    gop: int = 6,
    picture: np.ndarray | None = None,
) -> Path:
    """Write a video of one picture, or whose frame n is gray of level 10 n; several key frames in it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.gop_size = 64, 48, gop
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.time_base = Fraction(1, rate)
        for number in range(frames):
            gray = np.full((48, 64, 3), 10 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(gray if picture is None else picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turned(data: bytes, across: tuple[int, int], down: tuple[int, int]) -> bytes:
    """Return an mp4 whose header says where a step across its frames and one down go on the screen (ISO 14496-12)."""

    def matrix(a: int, b: int, c: int, d: int) -> bytes:
        return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)

    place = data.index(matrix(1, 0, 0, 1), data.index(b"tkhd"))
    return data[:place] + matrix(*across, *down) + data[place + 36 :]


def numbers(frames: list[Image.Image]) -> list[int]:
    return [round(float(np.asarray(frame).mean()) / 10) for frame in frames]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.mkv", "mpeg4"), ("a.avi", "mpeg4")])
@pytest.mark.parametrize("count", [1, 4, 20, 33])
def test_the_middle_of_each_segment_is_shown(tmp_path: Path, name: str, codec: str, count: int) -> None:
    path = video(tmp_path / name, codec=codec)
    found = sample_frames(path, count)
    assert numbers(found) == frame_indices(20, count)
    assert {(frame.mode, frame.size) for frame in found} == {("RGB", (64, 48))}
    assert numbers(sample_frames(path.read_bytes(), count)) == numbers(found)


def test_a_clip_is_told_in_seconds_and_training_draws_its_frames(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4")
    assert numbers(sample_frames(path, 50, first=0.5, last=0.8)) == [5, 6, 7, 8]
    assert numbers(sample_frames(path, 50, first=1.7)) == [17, 18, 19]
    drawn = [numbers(sample_frames(path, 4, generator=np.random.default_rng(seed))) for seed in range(4)]
    assert drawn == [frame_indices(20, 4, np.random.default_rng(seed)) for seed in range(4)]
    assert len({tuple(each) for each in drawn}) > 1
    with pytest.raises(VideoError, match=r"a.mp4 has no frame in the clip \(20 frames in all\)"):
        sample_frames(path, 4, first=9)


@pytest.mark.parametrize(
    ("across", "down", "size", "bright"),
    [
        ((1, 0), (0, 1), (64, 48), "left"),
        ((0, 1), (-1, 0), (48, 64), "top"),
        ((0, -1), (1, 0), (48, 64), "bottom"),
        ((-1, 0), (0, -1), (64, 48), "right"),
    ],
)
def test_frames_are_upright(
    tmp_path: Path, across: tuple[int, int], down: tuple[int, int], size: tuple[int, int], bright: str
) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = 200
    data = video(tmp_path / "a.mp4", picture=picture).read_bytes()
    for frame in sample_frames(turned(data, across, down), 4):
        seen = np.asarray(frame.convert("L"))
        height, width = seen.shape
        sides = {
            "left": seen[:, : width // 2], "right": seen[:, width // 2 :],
            "top": seen[: height // 2], "bottom": seen[height // 2 :],
        }  # fmt: skip
        assert frame.size == size
        assert max(sides, key=lambda side: sides[side].mean()) == bright and sides[bright].min() > 150


def test_gifs_and_folders_of_pictures_are_videos(tmp_path: Path) -> None:
    assert numbers(sample_frames(video(tmp_path / "a.gif", codec="gif"), 3))[0] == pytest.approx(3, abs=1)
    folder = tmp_path / "frames"
    folder.mkdir()
    with pytest.raises(VideoError, match="there is no frame in"):
        sample_frames(folder, 3)
    for number in range(9):
        Image.new("RGB", (8, 8), (10 * number,) * 3).save(folder / f"{number:03d}.png")
    assert numbers(sample_frames(f"{folder}/", 3)) == [1, 4, 7]
    with pytest.raises(VideoError, match="have no time"):
        sample_frames(folder, 3, last=1)
    (folder / "004.png").write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"004.png cannot be read.*remove it"):
        sample_frames(folder, 3)


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"there is no video .*gone.mp4 .*name one that exists"):
        sample_frames(tmp_path / "gone.mp4", 4)
    with pytest.raises(VideoError, match="0 frames of"):
        sample_frames(b"", 0)
    for name, data in (
        ("empty.mp4", b""),
        ("text.mp4", b"hello"),
        # A playlist must not make the decoder open other files or addresses.
        ("list.m3u8", f"#EXTM3U\n#EXTINF:1,\n{video(tmp_path / 'b.mp4')}\n#EXT-X-ENDLIST\n".encode()),
        ("list.txt", f"ffconcat version 1.0\nfile {tmp_path / 'b.mp4'}\n".encode()),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VideoError, match=rf"{name} cannot be read as a video .*name an mp4"):
            sample_frames(tmp_path / name, 4)


def test_a_video_that_breaks_off_is_refused(tmp_path: Path) -> None:
    whole = video(tmp_path / "a.mkv", frames=25, gop=4).read_bytes()
    assert len(sample_frames(whole, 8)) == 8
    damaged = bytearray(whole)
    damaged[len(whole) // 3 : len(whole)] = bytes(len(whole) - len(whole) // 3)
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(damaged)
    try:
        shown = sample_frames(broken, 25)
    except VideoError as error:
        assert "broken.mkv" in str(error)
    else:
        assert len(shown) < 25, "what is gone is not made up"


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("a.mkv", b"V_MPEG4", b"V_ZZZZ4", "pictures of the video are in a code that is not known here"),
        ("a.mp4", b"VideoHandler", b"Video\xffandler", "the video cannot be read as a video .*utf-8"),
    ],
)
def test_damage_that_the_library_trips_over_is_told_like_any(
    tmp_path: Path, name: str, old: bytes, new: bytes, told: str
) -> None:
    whole = video(tmp_path / name).read_bytes()
    assert whole.count(old) == 1
    with pytest.raises(VideoError, match=told):
        sample_frames(whole.replace(old, new), 4)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="only sound"):
        sample_frames(out.getvalue(), 4)


@pytest.mark.skipif(not VIDEOS.is_file(), reason="../shared/data/videos.tar is not here")
def test_real_videos_give_the_frames_that_decoding_all_gives() -> None:
    with tarfile.open(VIDEOS) as tar:
        members = [each for each in tar if each.name.endswith((".mp4", ".mkv"))]
        files = {each.name: tar.extractfile(each).read() for each in members[:4]}  # type: ignore[union-attr]
    for name, data in files.items():
        with av.open(io.BytesIO(data)) as container:
            every = list(container.decode(video=0))
        wanted = [every[number].to_image() for number in frame_indices(len(every), 8)]
        found = sample_frames(data, 8)
        assert [each.tobytes() for each in found] == [each.tobytes() for each in wanted], name
