"""The objective of contrastive training: pictures and texts of one pair close, of different pairs apart."""

from typing import Literal

import torch
from torch import Tensor, nn

from models.contrastive_loss import info_nce
from models.internvl import InternVL, clamp_logit_scale
from models.objective import SAMPLE_LOSS, Joint, JointObjective, Named
from models.pair_blocks import Contrast
from models.sigmoid_loss import LOGIT_BIAS, sigmoid_loss

Loss = Literal["softmax", "sigmoid"]


class ContrastiveObjective(JointObjective):
    """InternVL-C's objective (arXiv:2312.14238, section 3.3), and InternVL-G's when it is tuned for retrieval.

    Over batches of `pixel_values`; `input_ids` and `attention_mask`; and where given `keep_patches`, which patches
    the pixels are of; `noise`, int64 (rows,), for stochastic depth; `image_id` and `caption_id`, int64 (rows,), equal
    for equal pictures and captions, so that pairs which another pair's picture or caption makes true as well are
    no negatives.
    """

    def __init__(self, model: InternVL, *, loss: Loss = "softmax", soft_targets: bool = False) -> None:
        """Wrap InternVL-C, or InternVL-G with both its views of a picture.

        Args:
            model: Its configuration says how far labels are smoothed.
            loss: `softmax` is CLIP's, the paper's; `sigmoid` is SigLIP's, with a bias of its own that is learned
                here and no part of the model: similarities rank the same without it.
            soft_targets: Pairs of equal pictures all belong together (retrieval fine-tuning).
        """
        super().__init__()
        self.model, self.loss, self.soft_targets = model, loss, soft_targets
        if loss == "sigmoid":
            self.logit_bias = nn.Parameter(torch.tensor(LOGIT_BIAS))

    def counts(self, batch: Named) -> dict[str, Tensor]:
        """Return nothing: no term is a mean over a micro batch's own units."""
        return {}

    def embed(self, batch: Named) -> dict[str, Tensor]:
        """Return unit vectors `image` and `text`, (rows, embed_dim), `scale`, with sigmoid `bias`, and ids."""
        # The text first: it waits for its lengths, and on a GPU would wait for the picture as well.
        text = self.model.encode_text(batch["input_ids"], batch["attention_mask"])
        vision = self.model.see(batch["pixel_values"], batch.get("keep_patches"), batch.get("noise"))
        features = {
            "image": self.model.mix_views(vision) if self.model.generative else self.model.pool_image(vision),
            "text": text,
            "scale": self.model.logit_scale.exp(),
        }
        if self.loss == "sigmoid":
            # Not the parameter itself, which a wrapper may have cut over processes by the time it is used.
            features["bias"] = self.logit_bias.clone()
        return {**features, **{name: batch[name] for name in ("image_id", "caption_id") if name in batch}}

    def joint(self, features: Named) -> Joint:
        """Return `loss`, `sample_loss`, `scale` and the meters of `models.pair_blocks.Contrast`."""
        found = self._contrast(features)
        losses = {"loss": found.loss, SAMPLE_LOSS: found.sample_loss, "scale": features["scale"].detach()}
        return Joint({**losses, **found.meters})

    def _contrast(self, features: Named) -> Contrast:
        image, text, scale = (features[name] for name in ("image", "text", "scale"))
        image_ids, caption_ids = features.get("image_id"), features.get("caption_id")
        if self.loss == "sigmoid":
            return sigmoid_loss(
                image,
                text,
                scale,
                features["bias"],
                image_ids=image_ids,
                caption_ids=caption_ids,
                soft_targets=self.soft_targets,
            )
        return info_nce(
            image,
            text,
            scale,
            label_smoothing=self.model.config.label_smoothing,
            image_ids=image_ids,
            caption_ids=caption_ids,
            soft_targets=self.soft_targets,
        )

    def after_step(self) -> None:
        """Keep the learned scale in its bounds; the loop calls it when the optimizer has moved it."""
        clamp_logit_scale(self.model)
