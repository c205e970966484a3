"""Pictures against texts: retrieval, which word fits, and whether a pair belongs together."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models.internvl import InternVL
from models.preprocess import classification_values
from models.qllama import causal_mask
from stages.evaluation_metrics import (
    Floats,
    Measure,
    auc_measure,
    measure,
    retrieval_measures,
    winners,
)
from stages.evaluation_world import SLOTS, World, swapped, variants
from stages.pairs import Texts, normalise, resize
from stages.prompts import SUMMARIZE

RERANKED = 8
"""Captions per picture on which the matching head has its say."""


class Judge:
    """An InternVL-C or -G in memory that scores many pictures and texts; each text is encoded once."""

    def __init__(self, model: InternVL, texts: Texts, batch_size: int) -> None:
        """Put the model into evaluation mode, on the GPU where there is one."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.texts, self.batch_size = model.eval().to(self.device), texts, batch_size
        self._vectors: dict[str, Tensor] = {}
        self._prefix = torch.tensor(texts.ids(SUMMARIZE, end=False), device=self.device)

    @torch.no_grad()
    def see(self, pictures: Sequence[Image.Image], *, crop: bool = False) -> Tensor:
        """Return what the vision tower sees, shape (pictures, 1 + patches, vision width).

        Pictures are squashed to its square or, with `crop`, resized by their short side and cut to their middle.
        """
        steps = range(0, len(pictures), self.batch_size)
        pieces = (self._pixels(pictures[start : start + self.batch_size], crop) for start in steps)
        return torch.cat([self.model.see(piece.to(self.device)) for piece in pieces])

    def _pixels(self, pictures: Sequence[Image.Image], crop: bool) -> Tensor:
        side = self.model.config.vision.image_size
        if crop:
            return torch.stack([classification_values(picture, side) for picture in pictures])
        return normalise([resize(picture, side) for picture in pictures])

    @torch.no_grad()
    def picture_vectors(self, vision: Tensor, *, queries: bool = False, unit: bool = True) -> Floats:
        """Return vectors of what was seen, by InternVL-C's way or, with `queries`, by InternVL-G's.

        They are of unit length, or with `unit` false as long as the model made them.
        """
        model = self.model
        if queries:
            way = model.mix_views if unit else model.add_views
        else:
            way = model.pool_image if unit else model.project_image
        return _numpy(torch.cat([way(piece) for piece in vision.split(self.batch_size)]))

    def text_vectors(self, captions: Sequence[str]) -> Floats:
        """Return unit vectors of texts, shape (texts, embed_dim); they are kept for the next call."""
        self._vectors.update(self._encoded([caption for caption in captions if caption not in self._vectors]))
        return _numpy(torch.stack([self._vectors[caption] for caption in captions]))

    def passing_vectors(self, captions: Sequence[str]) -> Floats:
        """Return what `text_vectors` returns and keep nothing: for texts that are too many to keep."""
        found = self._encoded(captions)
        return _numpy(torch.stack([found[caption] for caption in captions]))

    @torch.no_grad()
    def _encoded(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Return vectors by text; texts of like length stand together, so that little work goes into padding."""
        ordered = sorted(set(captions), key=lambda caption: (len(self.texts.ids(caption)), caption))
        found: dict[str, Tensor] = {}
        for start in range(0, len(ordered), self.batch_size):
            piece = ordered[start : start + self.batch_size]
            ids, mask = self.texts.summaries(piece)
            vectors = self._encode(ids.to(self.device), mask.to(self.device))
            found.update(zip(piece, vectors.cpu(), strict=True))
        return found

    def _encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return what `InternVL.encode_text` returns; the prefix of all texts passes the model once.

        In a small model's vocabulary the prefix is half of a text's tokens.
        """
        start = len(self._prefix)
        if ids.shape[1] <= start or not bool((ids[:, :start] == self._prefix).all()):
            return self.model.encode_text(ids, mask)
        decoder = self.model.qllama.model
        _, cache = decoder(decoder.embed_tokens(self._prefix[None]))
        past = [(key.expand(len(ids), -1, -1, -1), value.expand(len(ids), -1, -1, -1)) for key, value in cache]
        below = causal_mask(mask[:, start:])
        seen = torch.cat([below.new_ones(*below.shape[:3], start), below], dim=-1)
        hidden, _ = decoder(decoder.embed_tokens(ids[:, start:]), seen, past=past)
        last = hidden[torch.arange(len(ids), device=ids.device), mask.sum(dim=1) - 1 - start]
        return F.normalize((last @ self.model.text_projection).float(), dim=-1)

    @torch.no_grad()
    def match(self, vision: Tensor, captions: Sequence[str]) -> Floats:
        """Return how surely each caption belongs to its picture, as the gap of two logits, shape (pictures,)."""
        found = []
        for start in range(0, len(captions), self.batch_size):
            piece = slice(start, start + self.batch_size)
            ids, mask = self.texts.plain(captions[piece])
            logits = self.model.match(vision[piece], ids.to(self.device), mask.to(self.device))
            found.append(logits[:, 1] - logits[:, 0])
        return _numpy(torch.cat(found))


def _numpy(tensor: Tensor) -> Floats:
    return np.asarray(tensor.double().cpu().numpy())


def retrieval(
    judge: Judge, split: str, language: str, vectors: Floats, captions: Sequence[str], prefix: str = ""
) -> list[Measure]:
    """Return retrieval of captions by pictures and of pictures by captions."""
    return retrieval_measures(split, language, vectors @ judge.text_vectors(captions).T, captions, prefix)


def slot_choices(judge: Judge, world: World, vectors: Floats, slot: str, language: str) -> npt.NDArray[np.int64]:
    """Return which value of a slot fits each picture best, the rest of its caption being right; -1 at a tie."""
    texts = [variants(scene, slot, language) for scene in world.scenes]
    flat = judge.text_vectors([text for row in texts for text in row])
    table = flat.reshape(len(texts), len(SLOTS[slot]), -1)
    return winners(np.einsum("nd,nvd->nv", vectors, table))


def slots(judge: Judge, world: World, vectors: Floats, language: str) -> list[Measure]:
    """Return for each slot how often the right value wins, beside guessing and beside another scene's picture."""
    found = []
    for slot, values in SLOTS.items():
        right = np.array([values.index(getattr(scene, slot)) for scene in world.scenes])
        chosen = slot_choices(judge, world, vectors, slot, language)
        blind = slot_choices(judge, world, np.roll(vectors, -1, axis=0), slot, language)
        name, chance = f"choose_{slot}", 1 / len(values)
        found.append(measure(world.split, language, name, chosen == right, chance=chance, blind=blind == right))
    return found


def matching(judge: Judge, world: World, vision: Tensor, language: str) -> list[Measure]:
    """Return how well the matching head tells own captions from other scenes' and from almost right ones."""
    own = world.captions(language)
    other = other_captions(own, range(len(own)))
    almost = [swapped(scene, number, language)[1] for number, scene in enumerate(world.scenes)]
    scores = judge.match(vision, own)
    return [
        auc_measure(world.split, language, "matching_auc_random", scores, judge.match(vision, other)),
        auc_measure(world.split, language, "matching_auc_one_slot_swapped", scores, judge.match(vision, almost)),
    ]


def other_captions(captions: Sequence[str], pictures: Sequence[Hashable]) -> list[str]:
    """Return for each caption the next one that says something else of another picture; itself where none does.

    Args:
        captions: Of some pictures, perhaps several of one.
        pictures: What tells each caption's picture from others.
    """
    told = list(zip(captions, pictures, strict=True))
    found = []
    for number, (own, picture) in enumerate(told):
        following = [*told[number + 1 :], *told[:number]]
        found.append(next((text for text, shown in following if text != own and shown != picture), own))
    return found


def nearest(vectors: Floats, texts: Floats, captions: Sequence[str], count: int) -> list[str]:
    """Return the best caption of all for the first `count` pictures."""
    return [captions[int(place)] for place in (vectors[:count] @ texts.T).argmax(axis=1)]


def reranked(judge: Judge, world: World, vision: Tensor, vectors: Floats, language: str) -> Measure:
    """Return how often the best caption is right when the matching head has its say on the likeliest ones.

    Scaled similarity and the head's verdict are logits both and are added, as BLIP does it
    (arXiv:2201.12086, section 5.1); captions that were not among the likeliest stay behind them.
    """
    captions = list(dict.fromkeys(world.captions(language)))
    scores = float(judge.model.logit_scale.detach().exp()) * vectors @ judge.text_vectors(captions).T
    likely = np.argsort(-scores, axis=1, kind="stable")[:, :RERANKED]
    pictures = vision.repeat_interleave(likely.shape[1], dim=0)
    verdicts = judge.match(pictures, [captions[place] for place in likely.ravel()]).reshape(likely.shape)
    best = (np.take_along_axis(scores, likely, axis=1) + verdicts).argmax(axis=1)
    chosen = likely[np.arange(len(likely)), best]
    hits = [captions[place] == own for place, own in zip(chosen, world.captions(language), strict=True)]
    return measure(world.split, language, "reranked_recall_at_1_image_to_text", hits, chance=1 / len(captions))
