"""Which frames of a video become part of a conversation, and how they are stored: as JPEG, no larger than needed."""

import io
from typing import Literal

import av
import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.preprocess import frame_indices
from stages.videos import VideoError, open_video, sample_frames

QUALITY = 95
Clip = tuple[float, float]
"""(start, end) in seconds."""


class FramePolicy(BaseModel):
    """Which frames of a video are shown: one from each of so many equal segments of time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: int = Field(default=8, ge=1, description="Fewest frames where their number is drawn.")
    most: int = Field(default=32, ge=1, description="Most frames; the official training draws from 8 to 32.")
    sampling: Literal["rand", "middle", "fps"] = Field(
        default="rand",
        description="rand: as in training, the number and the frame of each segment are drawn; middle: `most` "
        "segments, the middle frame of each, as in evaluation; fps: `fps` frames a second, up to `most`.",
    )
    fps: float = Field(default=1.0, gt=0, description="For the sampling fps.")
    longest_side: int = Field(default=448, ge=16, description="Of a stored frame in pixels; it is shown as one tile.")

    @model_validator(mode="after")
    def _in_order(self) -> "FramePolicy":
        if self.least > self.most:
            raise ValueError(f"least {self.least} frames are more than most {self.most}")
        return self

    def count(self, seconds: float, generator: np.random.Generator) -> int:
        """Return how many frames of a video that lasts so long are shown, if it has them."""
        if self.sampling == "rand":
            return int(generator.integers(self.least, self.most + 1))
        return self.most if self.sampling == "middle" else min(self.most, max(1, round(seconds * self.fps)))

    def of_video(self, data: bytes, generator: np.random.Generator, clip: Clip | None = None) -> list[bytes]:
        """Return the chosen frames of a video, or of a clip of it, as JPEG.

        Args:
            data: The file.
            generator: Of this video, for what is drawn.
            clip: All of it when left out.

        Raises:
            VideoError: It cannot be shown.
        """
        first, last = clip or (None, None)
        seconds = clip[1] - clip[0] if clip else seconds_of(data) if self.sampling == "fps" else 0.0
        count = self.count(seconds, generator)
        draws = generator if self.sampling == "rand" else None
        frames = sample_frames(data, count, first=first, last=last, generator=draws)
        return [jpeg(frame, self.longest_side) for frame in frames]

    def of_pictures(self, names: list[str], generator: np.random.Generator) -> list[str]:
        """Return the chosen ones of pictures that are a video's frames, one a second.

        Raises:
            VideoError: There are none.
        """
        if not names:
            raise VideoError("the folder holds no picture")
        count = self.count(float(len(names)), generator)
        draws = generator if self.sampling == "rand" else None
        return [names[number] for number in frame_indices(len(names), count, draws)]


def seconds_of(data: bytes) -> float:
    """Return how long a video lasts by its container.

    Raises:
        VideoError: It does not tell.
    """
    with open_video(data) as container:
        found = container.duration
    if not found:
        raise VideoError("it does not tell how long it lasts; choose another sampling than fps")
    return found / av.time_base


def jpeg(image: Image.Image, longest_side: int) -> bytes:
    """Return a frame as JPEG in full colour resolution, made smaller where it is larger than needed."""
    if (scale := longest_side / max(image.size)) < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()
