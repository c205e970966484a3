"""Small instruction data of one's own: pictures in a folder, a video, and annotations about them."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from infra.cluster import InlineCluster
from infra.storage import Store
from stages import conversations
from stages.conversation_sources import OwnConversations
from stages.manifest import Manifest
from stages.ref import Ref
from stages.workspace import Output, Workspace


def picture(folder: Path, name: str, width: int = 96, height: int = 48, level: int = 90) -> str:
    """Draw a picture of one colour; its name is returned."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (level, 40, 200 - level)).save(folder / name)
    return name


def video(folder: Path, name: str = "clip.mp4", frames: int = 20, rate: int = 10) -> str:
    """Write a video whose frame n is gray of level 10 n, so many frames a second; its name is returned."""
    with av.open(str(folder / name), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, "yuv420p", Fraction(1, rate)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * number, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return name


def turns(*said: str) -> list[dict[str, str]]:
    """Return questions and answers in turn as official turns."""
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(said)]


def annotations(folder: Path, rows: list[Any], name: str = "own.jsonl") -> str:
    """Write rows as JSONL; texts go as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


def mixed(folder: Path) -> list[dict[str, Any]]:
    """Return good rows of every kind, their pictures and video written into a folder."""
    several = "Image-1: <image>\nImage-2: <image>\nWhich is redder?"
    return [
        {"id": "text", "conversations": turns("What is two and two?", "four")},
        {"id": "one", "image": picture(folder, "a.png"), "conversations": turns("<image>\nWhat colour?", "blue")},
        {
            "id": "two",
            "image": [picture(folder, "deep/b.jpg", level=10), picture(folder, "deep/c.webp", 48, 96, 190)],
            "conversations": turns(several, "the second", "Sure?", "yes"),
        },
        {"id": "film", "video": video(folder), "conversations": turns("<video>\nBrighter or darker?", "brighter")},
    ]


def make(store: Store, scratch: Path, own: OwnConversations, version: str = "t", **given: Any) -> Manifest:
    """Run the data stage on one source."""
    parameters = conversations.Parameters.model_validate({"own": own, **given})
    ref = Ref(name=f"conversations/{own.name}", version=version)
    output = Output(store, ref, "conversations", parameters.model_dump(mode="json"))
    return conversations.run(parameters, output, Workspace(store=store, cluster=InlineCluster(), scratch=scratch))
