"""Check a folder of recorded numbers, in the format of `tests/parity`, against our models.

`NAME.safetensors` holds a recording and `NAME.json` its configuration; a lone `.json` holds tiles,
prompts or shapes. A configuration with `rest_from` says whose recording holds what this one leaves
out: weights and inputs that several recordings share are kept once.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.parity import check_chat, check_stage2, check_vision
from models.preprocess import tile, tile_count
from models.recording import TOLERANCE, Line, equal, relative_error
from models.renaming import State
from models.shapes import check_shapes
from stages.chat_template import TEMPLATES, render

_SYSTEM = "You are a careful assistant."
_TILE = 28  # pixels along one side of the recorded tiles
_RECORDINGS: dict[str, Callable[[Mapping[str, Any], State], list[Line]]] = {
    "intern_vit_": check_vision,
    "internvl_stage2": check_stage2,
    "internvl_chat_": check_chat,
}
_NOTES = (".md", ".txt")  # documentation beside the numbers


@dataclass(frozen=True)
class Checked:
    """What was found about one file."""

    file: str
    lines: list[Line]

    @property
    def passed(self) -> bool:
        """Whether something was compared and nothing differs."""
        return bool(self.lines) and all(line.passed for line in self.lines)


def read_json(path: Path) -> dict[str, Any]:
    """Return an object from a JSON file.

    Raises:
        ValueError: There is none.
    """
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return found


def read_recording(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return a recording's configuration and tensors, those included that another recording keeps for it.

    Args:
        folder: Where both files lie.
        name: Their name without ending.

    Raises:
        OSError: A file cannot be read.
        ValueError: It holds something else, or leads out of the folder.
    """
    facts = read_json(folder / f"{name}.json")
    tensors = load_file(folder / f"{name}.safetensors")
    if "rest_from" not in facts:
        return facts, tensors
    rest_name = str(facts["rest_from"])
    if Path(rest_name).name != rest_name:
        raise ValueError(f"rest_from {rest_name!r} is not a name in the same folder")
    # A part of the model that this recording brings, such as another language model, replaces the whole part.
    own = {part for each in tensors if (part := _part(each))}
    rest = load_file(folder / f"{rest_name}.safetensors")
    return facts, {each: value for each, value in rest.items() if _part(each) not in own} | tensors


def _part(name: str) -> str | None:
    """Return the part of a model that a weight belongs to, `w.mlp1.` of `w.mlp1.0.weight`; None for the rest."""
    pieces = name.split(".")
    return ".".join(pieces[:2]) if pieces[0] == "w" else None


def gradient_image(width: int, height: int) -> Image.Image:
    """Return a picture whose red grows from left to right and whose green from top to bottom, both 0 to 255."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return Image.fromarray(pixels)


def check_tiling(facts: dict[str, Any]) -> list[Line]:
    """Compare tile counts, and the mean red and green of each tile of a gradient, which fix grid and order.

    Args:
        facts: `tiles` (width, height, min, max, thumbnail, count) and `grids` (width, height, colours; up to
            12 tiles and a thumbnail); `image_size`, 28 when left out.
    """
    size = facts.get("image_size", _TILE)
    counted = [(row, tile_count(row[0], row[1], size, row[2], row[3], row[4])) for row in facts["tiles"]]
    wrong = [f"{row[0]} x {row[1]} up to {row[3]}: {found} not {row[5]}" for row, found in counted if found != row[5]]
    error = 0.0
    for width, height, colours in facts["grids"]:
        tiles = tile(gradient_image(width, height), size, 1, 12, use_thumbnail=True)
        found = [np.asarray(each, np.float64)[..., :2].mean(axis=(0, 1)) for each in tiles]
        error = max(error, relative_error(torch.tensor(np.array(found)), torch.tensor(colours, dtype=torch.float64)))
    return [
        Line("tiles", float(len(wrong)), 0.0, "; ".join(wrong) or f"{len(counted)} counts"),
        Line("grids", error, TOLERANCE, f"colours of {len(facts['grids'])} pictures"),
    ]


def check_prompts(facts: dict[str, Any]) -> list[Line]:
    """Compare roles, separators and two rendered conversations of each template, one open and one complete."""
    questions = ["<image>\nWhat colour is the circle?", "And the square?"]
    lines = []
    for name, recorded in facts.items():
        if name not in TEMPLATES:
            lines.append(Line(name, float("inf"), 0.0, "no template of ours has this name"))
            continue
        template = TEMPLATES[name]
        ours = {
            "roles": [template.human, template.assistant],
            "sep": template.end + template.gap,
            "prompt_for_generation": render(name, _SYSTEM, questions, ["Red."]),
            "prompt_complete": render(name, _SYSTEM, ["Q1"], ["A1"]),
        }
        lines += [equal(f"{name} {what}", value, recorded[what]) for what, value in ours.items()]
    return lines


def check_file(path: Path) -> Checked:
    """Compare one file; what cannot be read or compared is a line that failed, with the reason.

    A recording's `.safetensors` is checked with its `.json`, and alone only where that is missing.
    """
    try:
        return Checked(path.name, _lines(path))
    # Anything may stand in a file that somebody else recorded, and the other files are to be checked too.
    except (ValueError, TypeError, LookupError, RuntimeError, OSError, SafetensorError) as error:
        text = f"{error!r}" if isinstance(error, LookupError) else str(error)
        return Checked(path.name, [Line("cannot be compared", float("inf"), 0.0, text)])


def _lines(path: Path) -> list[Line]:
    kind = next((check for prefix, check in _RECORDINGS.items() if path.name.startswith(prefix)), None)
    if path.suffix == ".json" and kind is not None:
        return kind(*read_recording(path.parent, path.stem))
    if path.suffix == ".json" and path.name.startswith("shapes_"):
        facts = read_json(path)
        return check_shapes(facts["parameters"], facts["tensors"], path.stem.removeprefix("shapes_"))
    if path.suffix == ".json" and path.name.startswith("dynamic_tiling"):
        return check_tiling(read_json(path))
    if path.suffix == ".json" and path.name.startswith("chat_prompts"):
        return check_prompts(read_json(path))
    if path.suffix == ".safetensors" and kind is not None:
        raise ValueError(f"{path.stem}.json, which says what was recorded, is missing")
    raise ValueError("not a kind of file that is checked here")


def check_folder(folder: Path) -> Iterator[Checked]:
    """Check every file of a folder in the order of names, each as soon as it is asked for.

    Raises:
        FileNotFoundError: There is no such folder, or nothing to check in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; name one of recordings, such as tests/parity")
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix not in _NOTES and not (path.suffix == ".safetensors" and path.with_suffix(".json").exists())
    ]
    if not paths:
        raise FileNotFoundError(f"{folder} holds nothing to check; recordings are NAME.json with NAME.safetensors")
    return map(check_file, paths)
