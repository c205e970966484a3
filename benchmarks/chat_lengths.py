"""Lengths of real conversations, recorded: answers of a few tokens and of hundreds, with 0 to 13 tiles.

1,536 rows of LLaVA's complex reasoning, MiniGPT-4's captions, POPE, DocVQA with its OCR text and Toloka's questions,
chosen by hash; tokens of a BPE of 32,000 entries trained on them and on captions of COCO, in the template of
InternVL 2.5. Tiles are those of at most 12 and a thumbnail for the picture's size: its own for Toloka, 224 x 224 for
MiniGPT-4, and for pictures of COCO the size of one of 80 others.
"""

import json
from pathlib import Path
from typing import NamedTuple

PATH = Path(__file__).parents[1] / "tests" / "golden" / "chat_lengths.json"
PER_TILE = 256
"""Tokens of a tile in the model that they were recorded for."""


class Recorded(NamedTuple):
    """One conversation."""

    text: int
    """Tokens, those of pictures not counted."""
    learned: int
    tiles: int

    @property
    def tokens(self) -> int:
        """All tokens of its row."""
        return self.text + PER_TILE * self.tiles


def recorded() -> list[Recorded]:
    """Return all, in no order."""
    return [Recorded(*each) for each in json.loads(PATH.read_text())]
