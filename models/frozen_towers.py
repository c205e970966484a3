"""What the frozen towers of the generative stage say of samples: the same bits whoever asks, kept or computed anew.

A matrix product adds up a row's numbers in an order that depends on the product's shape, not on the other
rows. Samples therefore pass the towers in pieces of one shape, filled up where there are too few: a sample's
numbers are a function of the sample alone. So they may be kept in memory or not, and a run that goes
on after a restart, or on another number of processes, has the bits of the uninterrupted one.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributed.tensor import DTensor

from models.internvl import InternVL
from models.layers import wide
from models.losses import processes

PICTURES, TEXTS = 8, 4
"""How many pass a tower together. Fewer texts: they come in several widths, each filled up by itself."""
TOKENS = 8
"""Texts are padded to multiples of this: few shapes, little padding."""
Values = tuple[Tensor, ...]


class Seen(NamedTuple):
    """What the towers say of a batch."""

    vision: Float[Tensor, "rows vision_tokens vision_width"]
    image: Float[Tensor, "rows embed_dim"]
    text: Float[Tensor, "rows embed_dim"]


class Passed(NamedTuple):
    """What a call made the towers compute: what was kept cost nothing."""

    pictures: int
    picture_places: int
    """Pictures as they passed the tower: pieces are filled up."""
    texts: list[int]
    """Lengths."""
    text_places: list[int]
    """Lengths as they passed the tower."""

    @classmethod
    def all_of(cls, batch: Mapping[str, Tensor]) -> "Passed":
        """Return all of a batch, without filling."""
        texts = batch["summary_attention_mask"].sum(dim=1).tolist()
        return cls(len(batch["row"]), len(batch["row"]), texts, texts)


class Memory:
    """Keeps tensors by sample number while there is room; what came first stays."""

    def __init__(self, room_bytes: int) -> None:
        """Start empty."""
        self.room_bytes = room_bytes
        self._kept: dict[int, Values] = {}

    def get(self, row: int) -> Values | None:
        """Return what is kept of a sample, None where nothing is."""
        return self._kept.get(row)

    def keep(self, row: int, values: Values) -> None:
        """Keep a sample's tensors, if they fit."""
        size = sum(value.nbytes for value in values)
        if row not in self._kept and size <= self.room_bytes:
            self.room_bytes -= size
            self._kept[row] = tuple(value.clone() for value in values)  # a view would hold the whole piece

    def __len__(self) -> int:
        """Return how many samples are kept."""
        return len(self._kept)


class FrozenTowers:
    """Runs the vision tower and the text tower without gradient, in pieces of one shape."""

    def __init__(self, model: InternVL, vision_bytes: int, text_bytes: int) -> None:
        """Keep up to so many bytes of what is seen and of text vectors; with 0 all is computed each time."""
        self.model = model
        self.visions, self.texts = Memory(vision_bytes), Memory(text_bytes)
        self.passed = Passed(0, 0, [], [])
        """What the last call had to compute."""

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Tensor]) -> Seen:
        """Return what both towers say.

        Args:
            batch: `row`, the sample numbers, shape (rows,); `pixel_values`; `summary_input_ids` and
                `summary_attention_mask`, texts whose vectors are asked for, padded on the right.
        """
        rows = batch["row"].tolist()
        lengths = batch["summary_attention_mask"].sum(dim=1).tolist()
        widths = [-(-length // TOKENS) * TOKENS for length in lengths]
        pixels, ids, mask = (batch[name] for name in ("pixel_values", "summary_input_ids", "summary_attention_mask"))

        def see(places: Tensor, _: int) -> Values:
            vision = self.model.see(pixels[places])
            return vision, self.model.pool_image(vision)

        def read(places: Tensor, width: int) -> Values:
            fitted = (F.pad(each[places], (0, max(0, width - each.shape[1])))[:, :width] for each in (ids, mask))
            return (self._read(*fitted),)

        (vision, image), pictures, shown = self._by_row(self.visions, rows, [0] * len(rows), PICTURES, see)
        (text,), texts, shapes = self._by_row(self.texts, rows, widths, TEXTS, read)
        read_places = [width for width in shapes for _ in range(TEXTS)]
        self.passed = Passed(len(pictures), PICTURES * len(shown), [lengths[place] for place in texts], read_places)
        return Seen(vision, image, text)

    def _read(
        self, ids: Int[Tensor, "rows tokens"], mask: Int[Tensor, "rows tokens"]
    ) -> Float[Tensor, "rows embed_dim"]:
        """Return `InternVL.encode_text` of padded texts: packed, a text's bits would depend on its company."""
        tower = self.model.qllama.model
        hidden, _ = tower(tower.embed_tokens(ids))
        ended = hidden[torch.arange(len(ids), device=ids.device), mask.sum(dim=1) - 1]
        return F.normalize(wide(ended @ self.model.text_projection), dim=-1)

    def _by_row(
        self,
        memory: Memory,
        rows: Sequence[int],
        shapes: Sequence[int],
        together: int,
        compute: Callable[[Tensor, int], Values],
    ) -> tuple[Values, list[int], list[int]]:
        """Return stacked values of all rows: from memory, or computed with others of the same shape.

        Also which places were computed, and the shape of each pass.
        """
        found = {place: kept for place, row in enumerate(rows) if (kept := memory.get(row)) is not None}
        lacking = sorted((place for place in range(len(rows)) if place not in found), key=lambda p: (shapes[p], p))
        pieces = []
        for shape, same in groupby(lacking, key=lambda place: shapes[place]):
            places = list(same)
            pieces += [(shape, places[at : at + together]) for at in range(0, len(places), together)]
        # With sharded weights every pass fetches them from all processes: each must pass as often as any.
        idle = [(shapes[0], [0])] * (self._most(len(pieces)) - len(pieces))
        for shape, piece in [*pieces, *idle]:
            filled = [*piece, *[piece[-1]] * (together - len(piece))]
            values = compute(torch.tensor(filled, device=self.model.logit_scale.device), shape)
            for number, place in enumerate(piece):
                found[place] = tuple(value[number] for value in values)
                memory.keep(rows[place], found[place])
        values = tuple(torch.stack(each) for each in zip(*(found[place] for place in range(len(rows))), strict=True))
        return values, lacking, [shape for shape, _ in (*pieces, *idle)]

    def _most(self, passes: int) -> int:
        """Return how often the process with most passes has to pass, where weights are sharded."""
        sharded = any(isinstance(each, DTensor) for each in self.model.parameters())
        if not sharded or processes() == 1:
            return passes
        most = torch.tensor(passes, device=self.model.logit_scale.device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most)
