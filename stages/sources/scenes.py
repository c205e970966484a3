"""A small visual world that can be drawn, described and asked about.

A scene has a group of two or three equal objects in one outer line of a 3x3 grid and one
other object alone in the opposite outer line, so exactly one of left, right, above, below
is true. Five colour-shape pairs are never drawn in training: descriptions of those pictures
can only be got right by composing what was learned apart.
"""

import hashlib
import random
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image, ImageDraw

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (208, 52, 48),
    "green": (58, 160, 72),
    "blue": (56, 96, 208),
    "yellow": (226, 196, 52),
    "purple": (146, 72, 176),
}
SHAPES = ("circle", "square", "triangle", "ring", "cross", "moon")
RELATIONS = ("left", "right", "above", "below")
COUNTS = (2, 3)
UNSEEN_PAIRS = frozenset(
    {("red", "moon"), ("green", "ring"), ("blue", "cross"), ("yellow", "triangle"), ("purple", "square")}
)


FIRST_OF_WEB, FIRST_OF_CONVERSATIONS, FIRST_OF_TEXTS = 0, 1 << 32, 1 << 33
"""Where the numbers begin of the scenes that each of them shows in training; a scene is never shown by two."""


class Split(StrEnum):
    """Which part of the world a scene is from; evaluation scenes are never drawn in training."""

    TRAIN = "train"
    IID = "iid"
    UNSEEN = "unseen"


@dataclass(frozen=True)
class Scene:
    """What a picture shows; `seed` decides jitter, places and noise, not the content."""

    group_color: str
    group_shape: str
    group_count: int
    relation: str
    single_color: str
    single_shape: str
    seed: int


def _pairs(unseen: bool) -> list[tuple[str, str]]:
    return [(c, s) for c in COLORS for s in SHAPES if ((c, s) in UNSEEN_PAIRS) == unseen]


def sample_scene(seed: int, index: int, split: Split) -> Scene:
    """Return scene number `index` of a split: a pure function of the three arguments."""
    key = hashlib.sha256(f"scene/{seed}/{split}/{index}".encode()).digest()
    rng = random.Random(int.from_bytes(key[:8], "big"))
    group = rng.choice(_pairs(unseen=split is Split.UNSEEN))
    single = rng.choice([pair for pair in _pairs(unseen=False) if pair != group])
    return Scene(
        group_color=group[0],
        group_shape=group[1],
        group_count=rng.choice(COUNTS),
        relation=rng.choice(RELATIONS),
        single_color=single[0],
        single_shape=single[1],
        seed=rng.getrandbits(31),
    )


def _cells(scene: Scene, rng: random.Random) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Return (column, row) cells of the group and of the single object."""
    line = {"left": 0, "right": 2, "above": 0, "below": 2}[scene.relation]
    places = sorted(rng.sample(range(3), scene.group_count))
    # The single object stands within the group's extent, so that only one relation holds.
    across = rng.randint(places[0], places[-1])
    if scene.relation in ("left", "right"):
        return [(line, place) for place in places], (2 - line, across)
    return [(place, line) for place in places], (across, 2 - line)


def paint(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, size: float, color: tuple[int, ...]) -> None:
    """Draw one object around a place; `size` is its height in pixels."""
    r = size / 2
    box = (x - r, y - r, x + r, y + r)
    if shape == "circle":
        draw.ellipse(box, fill=color)
    elif shape == "square":
        draw.rectangle((x - 0.88 * r, y - 0.88 * r, x + 0.88 * r, y + 0.88 * r), fill=color)
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x + r, y + 0.85 * r), (x - r, y + 0.85 * r)], fill=color)
    elif shape == "ring":
        draw.ellipse(box, outline=color, width=max(1, round(size * 0.24)))
    elif shape == "cross":
        arm = 0.32 * r
        draw.rectangle((x - arm, y - r, x + arm, y + r), fill=color)
        draw.rectangle((x - r, y - arm, x + r, y + arm), fill=color)
    else:
        draw.pieslice(box, 90, 270, fill=color)


def draw(scene: Scene, image_size: int = 48) -> Image.Image:
    """Draw a scene as an RGB picture of `image_size` x `image_size` pixels; same scene, same pixels."""
    rng = random.Random(scene.seed)
    unit = image_size / 48
    ramp = np.linspace(rng.uniform(150, 205), rng.uniform(150, 205), image_size, dtype=np.float32)
    background = np.broadcast_to(ramp[:, None] if rng.random() < 0.5 else ramp[None, :], (image_size, image_size))
    scale = 2
    large = Image.fromarray(np.repeat(background[..., None], 3, axis=2).astype(np.uint8))
    large = large.resize((image_size * scale, image_size * scale), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(large)
    group, single = _cells(scene, rng)
    things = [(cell, scene.group_color, scene.group_shape) for cell in group]
    things.append((single, scene.single_color, scene.single_shape))
    size = rng.uniform(13, 16)
    for (column, row), color, shape in things:
        jitter = (min(255, max(0, channel + rng.randint(-18, 18))) for channel in COLORS[color])
        slack = max(0.0, (16 - size) / 2)
        x = (column * 16 + 8 + rng.uniform(-slack, slack)) * unit * scale
        y = (row * 16 + 8 + rng.uniform(-slack, slack)) * unit * scale
        paint(pen, shape, x, y, size * unit * scale, tuple(jitter))
    pixels = np.asarray(large.resize((image_size, image_size), Image.Resampling.BOX), dtype=np.float32)
    noise = np.random.default_rng(scene.seed).normal(0, 4, pixels.shape).astype(np.float32)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def evaluation_pictures(split: Split, count: int, seed: int, image_size: int = 48) -> list[tuple[Image.Image, Scene]]:
    """Return the first pictures of an evaluation split with what they show."""
    scenes = [sample_scene(seed, index, split) for index in range(count)]
    return [(draw(scene, image_size), scene) for scene in scenes]
