"""Which frames of a video a conversation gets: as in training, as in evaluation, or so many a second."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_data import video
from PIL import Image
from pydantic import ValidationError

from models.preprocess import frame_indices
from stages.frame_policy import FramePolicy, seconds_of
from stages.videos import VideoError

VIDEOS = Path(__file__).resolve().parents[3] / "shared/data/videos.tar"


def levels(frames: list[bytes]) -> list[int]:
    """Return the numbers of frames of the drawn video, by how bright they are."""
    return [round(float(np.asarray(Image.open(io.BytesIO(each))).mean()) / 10) for each in frames]


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_each_policy_picks_its_frames(tmp_path: Path) -> None:
    data = (tmp_path / video(tmp_path)).read_bytes()
    middle = FramePolicy(most=4, least=2, sampling="middle")
    assert levels(middle.of_video(data, draws())) == frame_indices(20, 4) == [2, 7, 12, 17]
    one_a_second = FramePolicy(sampling="fps", fps=2, least=1)
    assert levels(one_a_second.of_video(data, draws())) == frame_indices(20, 4)
    assert len(FramePolicy(sampling="fps", fps=2, least=1, most=3).of_video(data, draws())) == 3
    assert levels(one_a_second.of_video(data, draws(), (0.5, 1.5))) == [7, 12]
    training = FramePolicy(least=2, most=6)
    drawn = [levels(training.of_video(data, draws(seed))) for seed in range(30)]
    assert drawn[3] == levels(training.of_video(data, draws(3)))
    assert {len(each) for each in drawn} == {2, 3, 4, 5, 6}
    for seed, found in enumerate(drawn):
        generator = draws(seed)
        assert found == frame_indices(20, int(generator.integers(2, 7)), generator)


def test_stored_frames_are_no_larger_than_needed(tmp_path: Path) -> None:
    data = (tmp_path / video(tmp_path)).read_bytes()
    for side, size in ((32, (32, 24)), (448, (64, 48))):
        policy = FramePolicy(least=1, most=1, longest_side=side)
        assert Image.open(io.BytesIO(policy.of_video(data, draws())[0])).size == size


def test_frames_in_a_folder_are_one_a_second(tmp_path: Path) -> None:
    names = [f"f{number}.jpg" for number in range(10)]
    assert FramePolicy(sampling="fps", fps=0.5).of_pictures(names, draws()) == [f"f{n}.jpg" for n in (0, 2, 4, 6, 8)]
    assert FramePolicy(sampling="middle", most=10).of_pictures(names, draws()) == names
    with pytest.raises(VideoError, match="holds no picture"):
        FramePolicy().of_pictures([], draws())


@pytest.mark.parametrize("given", [{"least": 9, "most": 8}, {"least": 0}, {"fps": 0}, {"sampling": "all"}])
def test_policies_that_pick_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FramePolicy.model_validate(given)


def test_a_playlist_and_nonsense_tell_no_length() -> None:
    for data in (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n", b"", b"nonsense"):
        with pytest.raises(VideoError, match="cannot be read as a video"):
            seconds_of(data)


@pytest.mark.skipif(not VIDEOS.is_file(), reason="../shared/data/videos.tar is not here")
def test_real_videos_give_eight_frames() -> None:
    with tarfile.open(VIDEOS) as tar:
        names = [name for name in tar.getnames() if name.endswith((".mp4", ".mkv"))]
        assert len(names) == 9
        for name in names:
            file = tar.extractfile(name)
            assert file is not None
            frames = FramePolicy(least=8, most=8, longest_side=112).of_video(file.read(), draws())
            assert len(frames) == 8 and max(Image.open(io.BytesIO(frames[0])).size) == 112
