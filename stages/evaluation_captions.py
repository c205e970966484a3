"""Captions that a model writes, scored by what they say: never by shared words, which guessing has too."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from models.losses import caption_losses, labelled
from stages.evaluation_metrics import Measure, majority, measure
from stages.evaluation_retrieval import Judge
from stages.evaluation_world import SLOTS, World, elsewhere, read_slots
from stages.held_out import strangers
from stages.sources.scenes import Scene

SPARE_TOKENS = 2
"""Room for captions a little longer than the right ones, their end token included."""


@torch.no_grad()
def write(
    judge: Judge,
    vision: Tensor,
    language: str | None,
    max_new_tokens: int,
    *,
    min_new_tokens: int = 0,
    beams: int = 1,
) -> list[str]:
    """Return the caption that InternVL-G writes for each picture; arguments as of `InternVL.caption`."""
    prompt, ends = torch.tensor([judge.texts.prompt(language)], device=judge.device), judge.texts.eos_token_id
    found = []
    for piece in vision.split(judge.batch_size):
        prompts = prompt.expand(len(piece), -1)
        chosen = judge.model.caption(piece, prompts, max_new_tokens, ends, min_new_tokens=min_new_tokens, beams=beams)
        for row in chosen.tolist():
            end = row.index(ends) if ends in row else len(row)
            found.append(str(judge.texts.tokenizer.decode(row[:end])).strip())
    return found


def longest(judge: Judge, captions: Sequence[str]) -> int:
    """Return how many tokens a caption may have, from the right ones."""
    return max(len(judge.texts.ids(caption)) for caption in captions) + SPARE_TOKENS


def score_slots(split: str, language: str, written: Sequence[str], scenes: Sequence[Scene]) -> list[Measure]:
    """Return for each slot how often the caption says the right value, and how often it says all of them.

    Blind is the caption written for the next scene's picture; chance is always saying the
    commonest value.
    """
    said = [read_slots(text, language) for text in written]
    blind = elsewhere(said)
    found = []
    for slot in SLOTS:
        right = [getattr(scene, slot) for scene in scenes]
        hits = [each[slot] == value for each, value in zip(said, right, strict=True)]
        guessed = [each[slot] == value for each, value in zip(blind, right, strict=True)]
        chance = majority([str(value) for value in right])
        found.append(measure(split, language, f"caption_{slot}", hits, chance=chance, blind=guessed))
    truth = [{slot: getattr(scene, slot) for slot in SLOTS} for scene in scenes]
    whole = [each == right for each, right in zip(said, truth, strict=True)]
    guessed = [each == right for each, right in zip(blind, truth, strict=True)]
    chance = majority([str(sorted(each.items())) for each in truth])
    found.append(measure(split, language, "caption_all_slots", whole, chance=chance, blind=guessed))
    return found


def captions(judge: Judge, world: World, vision: Tensor, language: str) -> tuple[list[Measure], list[str]]:
    """Return how well InternVL-G describes scenes, and what it wrote."""
    written = write(judge, vision, language, longest(judge, world.captions(language)))
    return score_slots(world.split, language, written, world.scenes), written


@torch.no_grad()
def losses(
    judge: Judge, vision: Tensor, texts: Sequence[str], languages: Sequence[str | None], shown: Mapping[int, int]
) -> list[float]:
    """Return the loss per token of captions after pictures.

    Args:
        judge: InternVL-G.
        vision: What the vision tower says of pictures, shape (pictures, tokens, width).
        texts: Captions.
        languages: Of each caption.
        shown: Places of captions in `texts`, and the place in `vision` of the picture that each is told after.

    Returns:
        One number for each of `shown`, in its order, in nats.
    """
    found: list[float] = []
    asked = list(shown)
    for number in range(0, len(asked), judge.batch_size):
        places = asked[number : number + judge.batch_size]
        told = [texts[place] for place in places], [languages[place] for place in places]
        ids, mask, labels = (part.to(judge.device) for part in judge.texts.prompted(*told))
        _, cache = judge.model.ask(vision[[shown[place] for place in places]])
        logits = judge.model.describe(cache, ids, mask)
        # Each caption by itself, so that long ones do not weigh more than short ones.
        found += (caption_losses(logits, labels) / labelled(labels).clamp(min=1)).tolist()
    return found


def loss_measures(
    judge: Judge,
    vision: Tensor,
    texts: Sequence[str],
    languages: Sequence[str | None],
    told_by: Callable[[int], tuple[int, int]],
    split: str,
    language: str,
) -> list[Measure]:
    """Return the loss of captions, and how often the own picture makes a caption likelier than another picture does.

    A caption that there is no other picture for is in no number that tells of another picture.

    Args:
        judge: InternVL-G.
        vision: What the vision tower says of the captions' own pictures.
        texts: Captions.
        languages: Of each caption.
        told_by: Returns what tells the picture in a place from others (`stages.held_out`).
        split: Of the rows.
        language: Of the rows.
    """
    places = range(len(texts))
    own = losses(judge, vision, texts, languages, dict(zip(places, places, strict=True)))
    shown = strangers(places, told_by)
    if not shown:
        return [measure(split, language, "caption_loss", own, unit="nats")]
    blind = losses(judge, vision, texts, languages, shown)
    helps = np.less([own[place] for place in shown], blind)
    return [
        measure(split, language, "caption_loss", own, blind=blind, unit="nats"),
        measure(split, language, "own_picture_helps_the_caption", helps, chance=0.5),
    ]
