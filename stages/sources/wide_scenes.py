"""Wide pictures with one small object, in the style of the drawn world: what cutting into tiles is for.

Squashed to a square the object keeps its colour and is four times as narrow; in a tile of its own it is as large as
in any scene.
"""

import hashlib
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from stages.sources.questions import Question
from stages.sources.scenes import COLORS, SHAPES, Split, paint

COLUMNS = 4
"""Width over height."""


@dataclass(frozen=True)
class WideScene:
    """What a wide picture shows; `seed` decides jitter, place and noise, not the content."""

    color: str
    shape: str
    column: int
    seed: int


def sample_wide(seed: int, index: int, split: Split) -> WideScene:
    """Return wide scene number `index` of a split: a pure function of the three arguments."""
    key = hashlib.sha256(f"wide/{seed}/{split}/{index}".encode()).digest()
    rng = random.Random(int.from_bytes(key[:8], "big"))
    return WideScene(rng.choice(tuple(COLORS)), rng.choice(SHAPES), rng.randrange(COLUMNS), rng.getrandbits(31))


def draw_wide(scene: WideScene, height: int = 48) -> Image.Image:
    """Draw a wide scene in RGB, `COLUMNS * height` x `height` pixels; no object lies on a tile's edge."""
    rng = random.Random(scene.seed)
    scale, unit = 2, height / 48
    width = COLUMNS * height
    ramp = np.linspace(rng.uniform(150, 205), rng.uniform(150, 205), width * scale)
    plain = np.broadcast_to(ramp[None, :, None], (height * scale, width * scale, 3))
    large = Image.fromarray(plain.astype(np.uint8))
    size = rng.uniform(13, 16)
    x, y = (rng.uniform(size / 2, 48 - size / 2) for _ in range(2))
    jitter = (min(255, max(0, channel + rng.randint(-18, 18))) for channel in COLORS[scene.color])
    place = ((scene.column * 48 + x) * unit * scale, y * unit * scale)
    paint(ImageDraw.Draw(large), scene.shape, *place, size * unit * scale, tuple(jitter))
    pixels = np.asarray(large.resize((width, height), Image.Resampling.BOX), dtype=np.float32)
    noise = np.random.default_rng(scene.seed).normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def wide_question(scene: WideScene) -> Question:
    """Return the question for the detail that squashing takes away."""
    return Question("shape", "What shape is the object?", scene.shape)
