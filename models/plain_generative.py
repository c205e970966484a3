"""The generative stage's objective as the paper draws it and the official code computes it: three passes stacked.

One batch of [queries][text] three times over, for matching, contrast and captioning, told apart by who may
see whom (arXiv:2312.14238, section 3.3 and figure 4). `models.generative_objective` gives the same losses
and gradients for less; this is what it is held against. It computes whatever learns: towers that
are not frozen get their gradients too.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

from models.generative_objective import contrast, counts
from models.internvl import InternVL, clamp_logit_scale
from models.layers import wide
from models.losses import IGNORE
from models.objective import Named, totals_of

Task = Literal["matching", "contrast", "captioning"]


def who_sees_whom(
    task: Task, attention_mask: Int[Tensor, "rows tokens"], queries: int
) -> Bool[Tensor, "rows 1 whole whole"]:
    """Return what each position of [queries][text] may see, booleans of shape (rows, 1, whole, whole).

    Queries always see all queries, nobody sees padding. Between the two:

    | task | queries see text | text sees queries | text sees text |
    | --- | --- | --- | --- |
    | matching | yes | yes | all of it |
    | contrast | no | no | what is before |
    | captioning | no | yes | what is before |
    """
    tokens = attention_mask.shape[1]
    seen = torch.ones(queries + tokens, queries + tokens, dtype=torch.bool, device=attention_mask.device)
    if task != "matching":
        seen[:queries, queries:] = False
        seen[queries:, queries:] = seen[queries:, queries:].tril()
    if task == "contrast":
        seen[queries:, :queries] = False
    valid = F.pad(attention_mask, (queries, 0), value=1).bool()
    # A row of padding that sees nothing would turn into NaN: it sees itself, and nobody reads it.
    itself = torch.eye(queries + tokens, dtype=torch.bool, device=attention_mask.device)
    return (seen & valid[:, None, :] | itself)[:, None]


class PlainGenerativeObjective(nn.Module):
    """Stage 2 in three passes, with pairs to be judged that come in the batch."""

    def __init__(self, model: InternVL) -> None:
        """Wrap InternVL-G."""
        super().__init__()
        self.model = model

    def counts(self, batch: Named) -> dict[str, Tensor]:
        """Return `itm`, verdicts, and `itg`, learned tokens."""
        return counts(batch, verdicts=1)

    def forward(self, batch: Named, totals: Named | None = None) -> dict[str, Tensor]:
        """Return `loss` and its three terms, each a share of the mean over the global batch.

        The contrast is among the rows of this call and of other processes' calls: one micro batch per step.

        Args:
            batch: `pixel_values`; `itm_*`, `summary_*`, `prompted_*`: the texts of the three tasks as `input_ids`
                and `attention_mask`, padded on the right; `itm_labels`, `prompted_labels`.
            totals: See `models.objective.Objective`.
        """
        totals = totals if totals is not None else totals_of(self, [batch])
        texts: dict[Task, str] = {"matching": "itm", "contrast": "summary", "captioning": "prompted"}
        ids, masks = (
            _alike([batch[f"{text}_{each}"] for text in texts.values()]) for each in ("input_ids", "attention_mask")
        )
        model, queries = self.model, self.model.query_tokens.shape[1]
        seen = [who_sees_whom(task, mask, queries) for task, mask in zip(texts, masks, strict=True)]
        words = model.qllama.model.embed_tokens(torch.cat(ids))
        embedded = torch.cat([model.query_tokens.expand(len(words), -1, -1), words], dim=1)
        vision = model.see(batch["pixel_values"])
        hidden, _ = model.qllama.model(embedded, torch.cat(seen), vision=vision, queries=queries, cached=False)
        matching, contrasting, captioning = hidden.chunk(3)

        verdicts = wide(model.itm_head(matching[:, :queries]).mean(dim=1))
        itm = F.cross_entropy(verdicts, batch["itm_labels"], reduction="sum") / totals["itm"]

        last = queries + masks[1].sum(dim=1) - 1
        ended = contrasting[torch.arange(len(last), device=last.device), last]
        text = F.normalize(wide(ended @ model.text_projection), dim=-1)
        asked = model.pool_queries(contrasting[:, :queries])
        itc = contrast(model, asked, text, model.logit_scale.exp(), batch).loss

        logits = wide(model.qllama.lm_head(captioning[:, queries:-1]))
        wanted = F.pad(
            batch["prompted_labels"], (0, ids[2].shape[1] - batch["prompted_labels"].shape[1]), value=IGNORE
        )
        surprise = F.cross_entropy(logits.flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=IGNORE, reduction="sum")
        itg = surprise / totals["itg"].clamp(min=1)
        return {"loss": itc + itm + itg, "itc": itc.detach(), "itm": itm.detach(), "itg": itg.detach()}

    def after_step(self) -> None:
        """Keep the learned scale in its range; called after each step of the optimizer."""
        clamp_logit_scale(self.model)


def _alike(texts: list[Int[Tensor, "rows _"]]) -> list[Tensor]:
    """Return ids or masks padded to the width of the widest."""
    width = max(each.shape[1] for each in texts)
    return [F.pad(each, (0, width - each.shape[1])) for each in texts]
