"""What a step of the generative stage costs: frozen towers as far as they ran, queries, verdicts, captions."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.frozen_towers import Passed
from models.generative_objective import GenerativeObjective, by_length, groups_of
from models.losses import IGNORE
from models.negatives import GIVEN, MINED, OWN, Negatives
from models.step_work import (
    FROZEN,
    LEARNS,
    PASSED,
    Products,
    StepCost,
    decoder_products,
    looking_products,
    pooling_products,
    vision_products,
)


def generative_cost(objective: GenerativeObjective, batch: Mapping[str, Tensor]) -> StepCost:
    """Return the cost of training on a batch.

    The decoder is frozen and gradients pass through it to the queries; what looks at pictures learns. Which captions
    were mined is known only within the step: their length is the mean of the batch's.

    Args:
        objective: What its towers kept from earlier batches costs nothing; before its first call all is new.
        batch: What it is called with.
    """
    rows = len(batch["row"])
    passed = objective.passed.get(batch["row"]) or Passed.all_of(batch)
    pairs = _judged(objective.negatives, batch)
    prompts = batch["prompted_attention_mask"].sum(dim=1)
    costs = _Costs(objective, batch["pixel_values"].shape[-1])
    learned = int((batch["prompted_labels"][:, 1:] != IGNORE).sum())
    both = rows * costs.asked + costs.heads(learned)
    useful = costs.towers(passed.pictures, passed.texts)
    useful += costs.judged(pairs.tolist()) + costs.written(prompts.tolist())
    filled_pairs, filled_prompts = _filled(pairs, groups_of(rows)), _filled(prompts, groups_of(rows))
    computed = costs.towers(passed.picture_places, passed.text_places)
    computed += costs.judged(filled_pairs) + costs.written(filled_prompts)
    return StepCost(
        sum(passed.texts) + int(pairs.sum()) + int(prompts.sum()) + passed.pictures * costs.seen,
        sum(passed.text_places) + sum(filled_pairs) + sum(filled_prompts) + passed.picture_places * costs.seen,
        both + useful,
        both + computed,
    )


class _Costs:
    """FLOPs of the parts of a step."""

    def __init__(self, objective: GenerativeObjective, image_size: int) -> None:
        self.config = config = objective.model.config
        self.patches = (image_size // config.vision.patch_size) ** 2
        self.seen, self.queries, self.width = self.patches + 1, config.num_query_token, config.text.hidden_size
        looks = looking_products(config, self.seen) + pooling_products(self.width, self.queries, config.embed_dim)
        self.asked = PASSED.flops(decoder_products(config.text, self.queries)) + LEARNS.flops(looks)
        """Queries of one picture, and their pooling."""

    def towers(self, pictures: int, texts: Sequence[int]) -> float:
        """Return what both towers say of pictures and of texts of these lengths."""
        vision, text = self.config.vision, self.config.text
        one = vision_products(vision, self.patches)
        one += pooling_products(vision.hidden_size, self.seen, self.config.embed_dim)
        read = [decoder_products(text, length) for length in texts]
        projected = Products(len(texts) * self.width * self.config.embed_dim)
        return FROZEN.flops(sum(read, start=one.times(pictures) + projected))

    def judged(self, lengths: Sequence[int]) -> float:
        """Return verdicts on captions of these lengths."""
        text = [decoder_products(self.config.text, self.queries + length) for length in lengths]
        looks = looking_products(self.config, self.seen, shown=True).times(len(lengths))
        return PASSED.flops(sum(text, start=Products())) + LEARNS.flops(looks)

    def written(self, lengths: Sequence[int]) -> float:
        """Return captions of these lengths after the queries, their head aside."""
        text = [decoder_products(self.config.text, length, past=self.queries) for length in lengths]
        return PASSED.flops(sum(text, start=Products()))

    def heads(self, tokens: int) -> float:
        """Return the logits of so many tokens."""
        return PASSED.flops(Products(tokens * self.config.text.vocab_size * self.width))


def _judged(negatives: Negatives, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the tokens of the captions that are judged, shape (pairs,)."""
    if GIVEN[0] in batch:
        return batch[GIVEN[1]].sum(dim=1)
    own, other = (batch[f"{name}_attention_mask"].sum(dim=1) for name in ("caption", "other"))
    judged, mean = batch["judged"], own.float().mean().round().long()
    first = torch.where(judged == OWN, own, torch.where(judged == MINED, mean, other))
    return torch.cat([first, *[own] * (negatives.verdicts - 1)])


def _filled(lengths: Tensor, groups: int) -> list[int]:
    """Return lengths as they are computed: those of one pass are filled up to its longest."""
    return [int(lengths[places].max()) for places in by_length(lengths, groups) for _ in places]
