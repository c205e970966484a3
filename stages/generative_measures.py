"""What InternVL-G has learned, measured on samples kept aside: retrieval, matching, captioning, beside guessing."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.frozen_towers import FrozenTowers, Seen
from models.internvl import InternVL
from models.losses import caption_losses, labelled
from stages.batches import generator_of
from stages.generative_batches import GenerativeBatches
from stages.held_out import strangers
from stages.pair_measures import retrieval
from stages.pairs import caption_ids
from stages.training.task import Batch, Metrics

MEASURE_BATCH = 64


def measure(model: InternVL, batches: GenerativeBatches, held_out: Sequence[int]) -> Metrics:
    """Return retrieval, matching and captioning among samples kept aside, each beside what guessing gives.

    Args:
        model: InternVL-G, in evaluation mode and without gradient.
        batches: How samples are read.
        held_out: At least two samples.
    """
    device = model.logit_scale.device
    towers = FrozenTowers(model, vision_bytes=0, text_bytes=0)
    found: dict[str, list[Tensor]] = {}
    # Captions are also told after another picture; those that there is none for only after their own.
    shown = strangers(held_out, batches.samples.told_by)
    for start in range(0, len(held_out), MEASURE_BATCH):
        rows = held_out[start : start + MEASURE_BATCH]
        seen = towers(_on(device, batches.seen(rows)))
        elsewhere = towers(_on(device, batches.seen([shown.get(row, row) for row in rows]))).vision
        # Among those kept aside: captions that training knows would be told apart by being familiar.
        wrong = [batches.another(row, generator_of("wrong caption", row), held_out) for row in rows]
        for name, value in _of_piece(model, batches, rows, wrong, seen, elsewhere).items():
            found.setdefault(name, []).append(value)
    whole = {name: torch.cat(values) for name, values in found.items()}
    numbers = caption_ids(batches.captions.read(held_out)).to(device)
    queries_alone = retrieval(whole["queries"], whole["text"], numbers)
    metrics = {
        **{f"queries_{name}": value for name, value in queries_alone.items() if "_to_" in name},
        **retrieval(whole["both"], whole["text"], numbers),
        "matching_auc": area_under_curve(whole["right"], whole["wrong"]),
        "matching_auc_chance": 0.5,
        "caption_loss": float(whole["caption"].sum() / whole["words"].sum()),
    }
    if shown:
        strange = torch.tensor([row in shown for row in held_out], device=device)
        blind = whole["caption_elsewhere"][strange].sum() / whole["words"][strange].sum()
        metrics["caption_loss_of_another_picture"] = float(blind)
    return {name: round(value, 4) for name, value in metrics.items()}


def _on(device: torch.device, batch: Batch) -> Batch:
    return {name: value.to(device) for name, value in batch.items()}


def _of_piece(
    model: InternVL,
    batches: GenerativeBatches,
    rows: Sequence[int],
    wrong: Sequence[int],
    seen: Seen,
    elsewhere: Tensor,
) -> dict[str, Tensor]:
    """Return vectors, verdicts on right and on wrong captions, and by caption its loss and its learned tokens.

    Args:
        model: InternVL-G.
        batches: How samples are read.
        rows: Some samples.
        wrong: For each, the sample whose caption is wrong for it.
        seen: What the towers say of them.
        elsewhere: What the vision tower says of another picture for each.
    """
    device = model.logit_scale.device
    vision, image, text = seen
    hidden, cache = model.ask(vision)
    queries = model.pool_queries(hidden)
    each = {"text": text, "queries": queries, "both": F.normalize(image + queries, dim=-1)}
    captions = batches.captions.read(rows)
    for name, judged in (("right", captions), ("wrong", batches.captions.read(wrong))):
        ids, mask = (part.to(device) for part in batches.texts.plain(judged))
        logits = model.match(vision, ids, mask)
        each[name] = logits[:, 1] - logits[:, 0]
    prompted = batches.texts.prompted(captions, batches.captions.languages(rows))
    ids, mask, labels = (part.to(device) for part in prompted)
    # Sums, not means: one process measures while the others wait, so it must not ask them for their share.
    each["words"] = labelled(labels)
    each["caption"] = caption_losses(model.describe(cache, ids, mask), labels)
    _, cache = model.ask(elsewhere)
    each["caption_elsewhere"] = caption_losses(model.describe(cache, ids, mask), labels)
    return each


def area_under_curve(right: Tensor, wrong: Tensor) -> float:
    """Return how often a right pair scores above a wrong one; ties count half."""
    gap = right[:, None] - wrong[None]
    return float((gap > 0).double().mean() + 0.5 * (gap == 0).double().mean())
