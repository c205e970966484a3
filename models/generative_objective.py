"""The generative stage's objective: contrast, matching and captioning through one QLLaMA (arXiv:2312.14238, 3.3).

Three passes of [queries][text] are what the paper draws (`models.plain_generative`). Here the same losses
and gradients cost less than half:

- For contrast and for captions no query sees a text, so one pass of the queries alone serves both; captions
  go on from its keys and values.
- For contrast no text sees a query and all its weights are frozen: text vectors are constants (`FrozenTowers`).
- Texts of about the same length share a pass, so padding is short; the head speaks only where a token is learned.
"""

from collections.abc import MutableMapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from models.contrastive_loss import info_nce
from models.decoder_layer import KeysValues
from models.frozen_towers import FrozenTowers, Passed, Seen
from models.internvl import InternVL, clamp_logit_scale
from models.layers import wide
from models.losses import IGNORE
from models.negatives import Negatives, Pairs
from models.objective import SAMPLE_LOSS, Joint, JointObjective, Named, totals_of
from models.pair_blocks import Contrast
from models.qllama import Cache, Looks

TRAINED = ("query_tokens", "clip_projector2.", "itm_head.", "logit_scale")
LENGTH_GROUPS, SMALLEST_GROUP = 4, 4
"""Most passes among which texts are shared out by length, and fewest rows of one."""


def is_trained(name: str) -> bool:
    """Return whether a weight of InternVL-G learns in this stage."""
    return name.startswith(TRAINED) or (name.startswith("qllama.") and ".cross_attn." in name)


def freeze(model: InternVL) -> None:
    """Leave gradients to what looks at pictures: queries, cross-attention, second pooling, matching head, scale."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name))


def counts(batch: Named, verdicts: int) -> dict[str, Tensor]:
    """Return over how many verdicts and how many learned tokens matching and captioning are means."""
    labels = batch["prompted_labels"]
    judged = torch.tensor(float(verdicts * len(labels)), device=labels.device)
    return {"itm": judged, "itg": (labels[:, 1:] != IGNORE).sum().float()}


def contrast(
    model: InternVL,
    queries: Float[Tensor, "rows embed_dim"],
    text: Float[Tensor, "rows embed_dim"],
    scale: Float[Tensor, ""],
    ids: Named,
) -> Contrast:
    """Return the contrast of queries with texts; what `ids` name alike is no negative."""
    return info_nce(
        queries,
        text,
        scale,
        label_smoothing=model.config.label_smoothing,
        image_ids=ids.get("image_id"),
        caption_ids=ids.get("caption_id"),
    )


class GenerativeObjective(JointObjective):
    """Stage 2 on frozen towers, with wrong pairs mined in the step."""

    def __init__(
        self,
        model: InternVL,
        *,
        paired: bool = False,
        image_negatives: bool = False,
        vision_bytes: int = 0,
        text_bytes: int = 0,
    ) -> None:
        """Freeze the towers of an InternVL-G.

        Args:
            model: Its towers are frozen from here on, and must say what they say now.
            paired: Judge each picture with its own caption besides the one that its row names.
            image_negatives: Judge each caption a second time, with a wrong picture that looks right.
            vision_bytes: Memory for what the vision tower has seen, per process.
            text_bytes: Memory for text vectors, per process.
        """
        super().__init__()
        freeze(model)
        self.model = model
        self.negatives = Negatives(float(model.logit_scale.detach().exp()), pictures=image_negatives, paired=paired)
        self.towers = FrozenTowers(model, vision_bytes, text_bytes)
        # By micro batch, not by its samples: two micro batches of a step may hold the same, and with sharded
        # weights every process must pass the towers as often as any.
        self._seen: MutableMapping[Tensor, Seen] = WeakTensorKeyDictionary()
        self.passed: MutableMapping[Tensor, Passed] = WeakTensorKeyDictionary()
        """By a batch's `row`, what its towers had to compute: for meters."""
        self._asked: tuple[Cache, Looks] | None = None

    def counts(self, batch: Named) -> dict[str, Tensor]:
        """Return `itm`, verdicts, and `itg`, learned tokens."""
        return counts(batch, self.negatives.verdicts)

    def embed(self, batch: Named) -> dict[str, Tensor]:
        """Return vectors of the queries with gradient, those of both towers, the scale, and what mining reads.

        Args:
            batch: `row`, sample numbers; `pixel_values`; `summary_*`, `prompted_*` with `prompted_labels`: texts as
                ids and mask, padded on the right. And either what `Negatives` reads, or pairs that
                were chosen elsewhere: `itm_input_ids`, `itm_attention_mask`, `itm_labels`.
        """
        # A replay of this micro batch finds what was seen; what queries saw would fill the memory that replays save.
        seen = self._seen.get(batch["row"])
        if seen is None:
            seen = self._seen[batch["row"]] = self.towers(batch)
            self.passed[batch["row"]] = self.towers.passed
        looks = Looks()
        hidden, cache = self.model.ask(seen.vision, looks)
        self._asked = cache, looks
        return {
            "queries": self.model.pool_queries(hidden),
            "image": seen.image,
            "text": seen.text,
            "scale": self.model.logit_scale.exp(),
            **self.negatives.features(batch, self.model.config.context_length),
        }

    def joint(self, features: Named) -> Joint:
        """Return the contrast of queries with texts, and the pairs that are to be judged."""
        found = contrast(self.model, features["queries"], features["text"], features["scale"], features)
        terms = {"itc": found.loss.detach(), "scale": features["scale"].detach(), SAMPLE_LOSS: found.sample_loss}
        return Joint({"loss": found.loss, **terms, **found.meters}, self.negatives.choose(features))

    def rest(self, batch: Named, features: Named, context: Named, totals: Named | None) -> dict[str, Tensor]:
        """Return matching and captioning, each a share of the mean over the global batch."""
        assert self._asked is not None, "rest follows embed, within one call"
        (queries, looks), self._asked = self._asked, None
        vision = self._seen.pop(batch["row"]).vision
        totals = totals if totals is not None else totals_of(self, [batch])
        pairs = Pairs.of(context)
        logits = self._judge(vision, looks, pairs)
        wrongness = F.cross_entropy(logits, pairs.labels, reduction="none")
        ids, mask, labels = (batch[f"prompted_{each}"] for each in ("input_ids", "attention_mask", "labels"))
        surprise = self._write(queries, ids, mask, labels)
        itm, itg = wrongness.sum() / totals["itm"], surprise.sum() / totals["itg"].clamp(min=1)
        right = (logits.detach().argmax(dim=1) == pairs.labels).sum() / totals["itm"]
        per_row = wrongness.detach()[: len(ids)] + _mean_by_row(surprise.detach(), labels)
        return {"loss": itm + itg, "itm": itm.detach(), "itg": itg.detach(), "itm_right": right, SAMPLE_LOSS: per_row}

    def _judge(self, vision: Tensor, looks: Looks, pairs: Pairs) -> Float[Tensor, "pairs 2"]:
        """Return verdicts on all pairs, in single precision at least."""
        lengths = pairs.attention_mask.sum(dim=1)
        # As many passes as rows allow: pairs differ in number between processes, rows do not.
        found, order = [], by_length(lengths, groups_of(len(vision)))
        for places in order:
            longest = int(lengths[places].max())
            ids, mask = (each[places, :longest] for each in (pairs.input_ids, pairs.attention_mask))
            shown = pairs.pictures[places]
            seen: Looks = [each and _picked(each, shown) for each in looks]
            found.append(wide(self.model.match(vision[shown], ids, mask, seen)))
        return _in_order(found, order)

    def _write(self, queries: Cache, ids: Tensor, mask: Tensor, labels: Tensor) -> Float[Tensor, "rows places"]:
        """Return the loss of each next token, nought where none is learned."""
        lengths, wanted = mask.sum(dim=1), labels[:, 1:]
        losses = wide(queries[0][0]).new_zeros(wanted.shape)
        for places in by_length(lengths, groups_of(len(ids))):
            longest = int(lengths[places].max())
            cache = [_picked(each, places) for each in queries]
            hidden = self.model.read_on(cache, ids[places, :longest], mask[places, :longest])
            learned = wanted[places, : longest - 1] != IGNORE
            logits = self.model.qllama.lm_head(hidden[:, :-1][learned])
            each = F.cross_entropy(wide(logits), wanted[places, : longest - 1][learned], reduction="none")
            row, token = learned.nonzero(as_tuple=True)
            losses = losses.index_put((places[row], token), each)
        return losses

    def after_step(self) -> None:
        """Keep the learned scale in its range; called after each step of the optimizer."""
        clamp_logit_scale(self.model)


def groups_of(rows: int) -> int:
    """Return how many passes texts of so many rows take; not by content, as sharded weights need all processes."""
    return max(1, min(LENGTH_GROUPS, rows // SMALLEST_GROUP))


def by_length(lengths: Int[Tensor, " rows"], groups: int) -> list[Int[Tensor, " some"]]:
    """Return rows in groups of equal size, the shortest first."""
    return [*lengths.argsort(stable=True).tensor_split(groups)]


def _picked(kept: KeysValues, places: Int[Tensor, " some"]) -> KeysValues:
    """Return keys and values of these rows; not kept[places], whose backward pass adds up one element at a time."""
    key, value = kept
    return key.index_select(0, places), value.index_select(0, places)


def _in_order(found: list[Tensor], order: list[Tensor]) -> Tensor:
    """Put rows that were worked on in another order back in their own."""
    return torch.cat(found)[torch.cat(order).argsort()]


def _mean_by_row(
    surprise: Float[Tensor, "rows places"], labels: Int[Tensor, "rows tokens"]
) -> Float[Tensor, " rows"]:
    """Return each caption's mean loss by token."""
    return surprise.sum(dim=1) / (labels[:, 1:] != IGNORE).sum(dim=1).clamp(min=1)
