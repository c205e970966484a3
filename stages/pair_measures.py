"""What pairs kept aside say about a model: retrieval, and what its text tower still knows of language."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.internvl import InternVL
from models.losses import IGNORE
from models.qllama import LlamaForCausalLM
from stages.pairs import Pictures, Texts, caption_ids
from stages.training.task import Metrics

MEASURE_BATCH = 128


def retrieval(images: Tensor, texts: Tensor, ids: Tensor, picture_ids: Tensor | None = None) -> Metrics:
    """Return recall at one in both directions, and what guessing would give; equal captions are all right.

    Args:
        images: Unit vectors of shape (pairs, embed_dim).
        texts: As `images`.
        ids: Shape (pairs,); which captions are equal.
        picture_ids: Shape (pairs,); which pictures are equal, where a picture has several captions: all are right.
    """
    right = ids[:, None] == ids[None]
    if picture_ids is not None:
        right = right | (picture_ids[:, None] == picture_ids[None])
    scores = images @ texts.T
    pairs = torch.arange(len(ids), device=ids.device)
    return {
        "held_out": float(len(ids)),
        "recall_at_1_image_to_text": float(right[pairs, scores.argmax(dim=1)].float().mean()),
        "recall_at_1_text_to_image": float(right[scores.argmax(dim=0), pairs].float().mean()),
        "recall_at_1_chance": float(right.float().mean()),
    }


def measured_retrieval(
    model: InternVL,
    encode_image: Callable[[Tensor], Tensor],
    pictures: Pictures,
    texts: Texts,
    rows: Sequence[int],
    captions: Sequence[str],
) -> Metrics:
    """Return `retrieval` among some samples, a caption or a picture of another sample that is equal being right too.

    Args:
        model: Its text tower reads the captions.
        encode_image: Returns unit vectors of pictures.
        pictures: Where pictures come from, at the size they are shown.
        texts: Turns captions into tokens.
        rows: The samples.
        captions: Theirs.
    """
    device = model.logit_scale.device
    seen, read = [], []
    for start in range(0, len(rows), MEASURE_BATCH):
        seen.append(encode_image(pictures.batch(rows[start : start + MEASURE_BATCH]).to(device)))
        ids, mask = texts.summaries(captions[start : start + MEASURE_BATCH])
        read.append(model.encode_text(ids.to(device), mask.to(device)))
    numbers = caption_ids(captions).to(device), pictures.ids(rows).to(device)
    return retrieval(torch.cat(seen), torch.cat(read), *numbers)


def language_loss(model: LlamaForCausalLM, texts: Texts, captions: Sequence[str]) -> float:
    """Return the mean next-token loss of captions without a picture."""
    device = model.lm_head.weight.device
    total = count = 0.0
    for start in range(0, len(captions), MEASURE_BATCH):
        ids, mask = texts.plain(captions[start : start + MEASURE_BATCH])
        labels = ids.masked_fill(mask == 0, IGNORE)[:, 1:].to(device)
        logits = model(ids.to(device))[:, :-1]
        total += float(F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"))
        count += float((labels != IGNORE).sum())
    return total / max(1.0, count)
