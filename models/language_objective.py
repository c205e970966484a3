"""The objective of a language model alone: each next token of a text."""

from torch import Tensor, nn

from models.config import TextConfig
from models.losses import caption_losses, labelled, shared
from models.objective import SAMPLE_LOSS, Named
from models.qllama import LlamaForCausalLM


class LanguageObjective(nn.Module):
    """The decoder with its loss, as the training loop calls it."""

    def __init__(self, config: TextConfig) -> None:
        """Allocate the decoder."""
        super().__init__()
        self.model = LlamaForCausalLM(config)

    def counts(self, batch: Named) -> dict[str, Tensor]:
        """Return how many tokens are learned; see `models.objective.Objective`."""
        return {"loss": labelled(batch["labels"]).sum().float()}

    def forward(self, batch: Named, totals: Named | None = None) -> dict[str, Tensor]:
        """Return the mean loss over all learned tokens of the step, and each text's own.

        Args:
            batch: `input_ids` and `labels`, of shape (texts, tokens).
            totals: Of the step, as `models.objective.totals_of` gives them.
        """
        losses, learned = caption_losses(self.model(batch["input_ids"]), batch["labels"]), labelled(batch["labels"])
        loss = shared(losses.sum(), learned.sum(), totals["loss"] if totals else None)
        return {"loss": loss, SAMPLE_LOSS: losses.detach() / learned.clamp(min=1)}
