"""How fast each weight of InternVL learns, as a share of the peak, and which weights decay: told from their names."""

from dataclasses import dataclass

from torch import nn

UNDECAYED = ("class_embedding", "position_embedding", "query_tokens")
"""Tokens that are learned themselves; they are no directions that a product could scale back up."""


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Return whether weight decay is for this parameter: matrices and kernels, neither vectors nor learned tokens."""
    return parameter.ndim >= 2 and name.rpartition(".")[2] not in UNDECAYED


@dataclass(frozen=True)
class LearningRates:
    """Rates of InternVL's weights, as shares of the peak.

    With a `layer_decay` below 1 each tower's layers learn more slowly the further they are from its end
    (BEiT, arXiv:2106.08254; arXiv:2312.14238, appendix on retrieval fine-tuning, has 0.9): embeddings, the
    queries and the logit scale count as layer 0, block i as i + 1, and what follows the last of L blocks as
    L + 1; the rate is layer_decay ** (L + 1 - layer).

    Attributes:
        vision_layers: Blocks of the vision tower.
        text_layers: Layers of the text tower.
        text: Of the text tower.
        patch_embedding: Of the projection of patches, in whose gradients spikes begin (arXiv:2304.13013).
        layer_decay: As above.
    """

    vision_layers: int
    text_layers: int
    text: float = 1.0
    patch_embedding: float = 1.0
    layer_decay: float = 1.0

    def of(self, name: str) -> float:
        """Return the share for a weight under its official name."""
        share = self.text if name.startswith("qllama.") else 1.0
        if name.startswith("vision_model.embeddings.patch_embedding."):
            share *= self.patch_embedding
        return share * float(self.layer_decay ** self._above(name))

    def _above(self, name: str) -> int:
        """Return how many layers lie between a weight and its tower's end."""
        sees = name.startswith(("vision_model.", "clip_projector."))
        layers = self.vision_layers if sees else self.text_layers
        for prefix in ("vision_model.encoder.layers.", "qllama.model.layers."):
            if name.startswith(prefix):
                return layers - int(name.removeprefix(prefix).partition(".")[0])
        first = ("vision_model.embeddings.", "qllama.model.embed_tokens.", "query_tokens", "logit_scale")
        return layers + 1 if name.startswith(first) else 0
