"""Videos in folders per class, in Kinetics' and MSR-VTT's lists."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from layouts import as_json, described, lay

from stages.evaluations.data import open_examples
from stages.manifest import ManifestError

CLASSES = described("videos", protocol="video_classification")
CAPTIONS = described("videos", protocol="video_retrieval")


def video(gray: int, frames: int = 4) -> bytes:
    """Return an MP4 of one gray."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((16, 32, 3), gray, np.uint8), "rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def test_one_folder_per_class(tmp_path: Path) -> None:
    lay(tmp_path, {"val/run/a.mp4": video(40), "val/sit still/b.mp4": video(200), "val/run/bad.mp4": b"no video"})
    found = open_examples(CLASSES, tmp_path)
    assert found.classes == ("run", "sit still") and [found.label(number) for number in range(2)] == [0, 1]
    assert [len(found.pictures(0, frames)) for frames in (1, 3, 9)] == [1, 3, 4]
    assert found.pictures(1)[0].size == (32, 16) and "cannot be read as a video" in found.unreadable["run/bad.mp4"]


def test_kinetics_list_names_clips_by_id_or_with_times(tmp_path: Path) -> None:
    lines = "label,youtube_id,time_start,time_end,split\nrun,x1,3,13,val\nsit,y2,0,10,val\nrun,gone,0,10,val\n"
    lay(tmp_path, {"val.csv": lines, "clips/x1_000003_000013.mp4": video(40), "clips/y2.mp4": video(200)})
    found = open_examples(CLASSES, tmp_path)
    assert [(found.key(number), found.label(number)) for number in range(2)] == [
        ("x1_000003_000013.mp4", 0),
        ("y2.mp4", 1),
    ]
    assert "there is no video" in found.unreadable["gone.mp4"]
    (tmp_path / "val.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ManifestError, match=r"it needs label, and youtube_id or file"):
        open_examples(CLASSES, tmp_path)


def test_lines_of_path_and_label(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {"test.txt": "a b.mp4 1\nc.mp4 0\n", "classes.txt": "sit\nrun\n", "a b.mp4": video(40), "c.mp4": video(9)},
    )
    found = open_examples(CLASSES, tmp_path)
    assert found.classes == ("sit", "run") and [found.label(number) for number in range(2)] == [1, 0]
    (tmp_path / "test.txt").write_text("c.mp4 jump\n")
    with pytest.raises(ManifestError, match=r"gives c.mp4 the class 'jump'"):
        open_examples(CLASSES, tmp_path)


def test_msrvtt(tmp_path: Path) -> None:
    sentences = [
        {"video_id": f"video{number}", "caption": f"it is {number} {again}"} for number in (7, 8) for again in (1, 2)
    ]
    whole = {
        "videos": [{"video_id": "video7", "split": "test"}, {"video_id": "video8", "split": "train"}],
        "sentences": sentences,
    }
    lay(tmp_path, {"MSRVTT_data.json": as_json(whole), "all/video7.mp4": video(40), "all/video8.mp4": video(40)})
    found = open_examples(CAPTIONS, tmp_path)
    assert (len(found), found.key(0), found.captions(0)) == (1, "video7", ("it is 7 1", "it is 7 2"))
    lay(tmp_path, {"MSRVTT_JSFUSION_test.csv": "key,vid_key,video_id,sentence\nret0,msr8,video8,eight\n"})
    assert open_examples(CAPTIONS, tmp_path).captions(0) == ("eight",)
    lay(tmp_path, {"MSRVTT_data.json": "[]"})
    (tmp_path / "MSRVTT_JSFUSION_test.csv").unlink()
    with pytest.raises(ManifestError, match=r"is not MSR-VTT's JSON"):
        open_examples(CAPTIONS, tmp_path)
