"""InternVL-C and InternVL-G: one class, the official weight names (arXiv:2312.14238, section 3.3).

InternVL-C compares a picture with a text through two towers. InternVL-G adds queries that look at
the picture from inside the text tower (QLLaMA): a second view for retrieval, a judge of matching
pairs, and captions.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.config import InternVLConfig
from models.contrastive_loss import info_nce
from models.intern_vit import InternVisionModel
from models.losses import caption_loss, matching_loss
from models.pooling import AttentionPooling
from models.qllama import Cache, LlamaForCausalLM, causal_mask

LOGIT_SCALE = math.log(1 / 0.07)
MAX_LOGIT_SCALE = math.log(100)
"""CLIP's own limit (arXiv:2103.00020, section 2.5); the InternVL paper names none."""


class InternVL(nn.Module):
    """Both towers and what joins them; queries only where `generative`."""

    def __init__(self, config: InternVLConfig, *, generative: bool = True) -> None:
        """Allocate; without `generative` it is InternVL-C and has no query, cross-attention or matching head."""
        super().__init__()
        self.config, self.generative = config, generative
        width, vision_width, heads = config.text.hidden_size, config.vision.hidden_size, config.attn_pool_num_heads
        self.vision_model = InternVisionModel(config.vision)
        self.qllama = LlamaForCausalLM(
            config.text, vision_width if generative else None, config.cross_attention_frequency
        )
        self.clip_projector = AttentionPooling(vision_width, heads, config.embed_dim)
        self.text_projection = nn.Parameter(torch.randn(width, config.embed_dim) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(LOGIT_SCALE))
        if generative:
            self.query_tokens = nn.Parameter(torch.randn(1, config.num_query_token, width) * 0.02)
            self.clip_projector2 = AttentionPooling(width, heads, config.embed_dim)
            self.itm_head = nn.Linear(width, 2)

    @classmethod
    def from_state(cls, config: InternVLConfig, state: Mapping[str, Tensor]) -> "InternVL":
        """Return the model that these weights belong to: InternVL-G where they hold queries, else InternVL-C.

        Raises:
            RuntimeError: A weight is missing, unknown or of another shape.
        """
        model = cls(config, generative="query_tokens" in state)
        model.load_state_dict(dict(state), strict=True)
        return model

    # InternVL-C

    def see(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        keep_patches: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch vision_tokens vision_width"]:
        """Return what the vision tower sees, shape (batch, 1 + patches, vision width)."""
        return torch.as_tensor(self.vision_model(pixel_values, keep_patches).last_hidden_state)

    def encode_image(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        keep_patches: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return InternVL-C's picture vectors, of unit length."""
        return self.pool_image(self.see(pixel_values, keep_patches))

    def pool_image(
        self, vision: Float[Tensor, "batch vision_tokens vision_width"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return unit vectors for what the tower has seen: all tokens, the class token among them."""
        return F.normalize(self.clip_projector(vision).float(), dim=-1)

    def encode_text(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return text vectors of unit length, the same for C and G.

        Args:
            input_ids: `summarize:` and the caption, begun and ended, padded on the right.
            attention_mask: 1 for tokens, 0 for padding.
        """
        return F.normalize(self.project_text(input_ids, attention_mask).float(), dim=-1)

    def project_text(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return text vectors as the projection gives them, of any length."""
        # With padding on the right alone, a causal token never sees it: no mask, and the fast kernel.
        hidden, _ = self.qllama.model(self.qllama.model.embed_tokens(input_ids))
        last = attention_mask.sum(dim=1) - 1
        ended = hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
        return torch.as_tensor(ended @ self.text_projection)

    def similarity(
        self, image_features: Float[Tensor, "pictures embed_dim"], text_features: Float[Tensor, "texts embed_dim"]
    ) -> Float[Tensor, "pictures texts"]:
        """Return scaled similarities."""
        return self.logit_scale.exp() * image_features @ text_features.T

    # InternVL-G

    def ask(
        self, vision: Float[Tensor, "batch vision_tokens vision_width"]
    ) -> tuple[Float[Tensor, "batch queries width"], Cache]:
        """Let the queries look: their hidden states, and keys and values for text.

        Queries see each other but never a text, so retrieval and captioning share this one pass.
        """
        queries = self.query_tokens.expand(vision.shape[0], -1, -1)
        count = queries.shape[1]
        everything = torch.ones(1, 1, count, count, dtype=torch.bool, device=vision.device)
        hidden, cache = self.qllama.model(queries, everything, vision=vision, queries=count)
        return torch.as_tensor(hidden), cache

    def pool_queries(self, hidden: Float[Tensor, "batch queries width"]) -> Float[Tensor, "batch embed_dim"]:
        """Return unit vectors of the queries alone."""
        return F.normalize(self.clip_projector2(hidden).float(), dim=-1)

    def encode_image_g(
        self, pixel_values: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return InternVL-G's picture vectors: both views in equal shares, of unit length."""
        return self.mix_views(self.see(pixel_values))

    def mix_views(
        self, vision: Float[Tensor, "batch vision_tokens vision_width"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return InternVL-G's picture vectors for what the tower has seen."""
        return F.normalize(self.pool_image(vision) + self.pool_queries(self.ask(vision)[0]), dim=-1)

    def match(
        self,
        vision: Float[Tensor, "batch vision_tokens vision_width"],
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch 2"]:
        """Return logits of shape (batch, 2): column 1 says that caption and picture belong together.

        Queries and text see each other in both directions; the caption has no prefix here.
        """
        queries = self.query_tokens.expand(vision.shape[0], -1, -1)
        count = queries.shape[1]
        embedded = torch.cat([queries, self.qllama.model.embed_tokens(input_ids)], dim=1)
        seen = torch.cat([attention_mask.new_ones(attention_mask.shape[0], count), attention_mask], dim=1).bool()
        mask = seen[:, None, None, :].expand(-1, 1, embedded.shape[1], -1)
        hidden, _ = self.qllama.model(embedded, mask, vision=vision, queries=count)
        return torch.as_tensor(self.itm_head(hidden[:, :count]).mean(dim=1))

    def describe(
        self, queries: Cache, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Return next-token logits of a caption after the queries.

        Args:
            queries: The keys and values that `ask` returned.
            input_ids: Prompt and caption, padded on the right.
            attention_mask: 1 for tokens, 0 for padding.
        """
        text = causal_mask(attention_mask)
        seen = text.new_ones(*text.shape[:3], queries[0][0].shape[2])
        embedded = self.qllama.model.embed_tokens(input_ids)
        hidden, _ = self.qllama.model(embedded, torch.cat([seen, text], dim=-1), past=queries)
        return torch.as_tensor(self.qllama.lm_head(hidden))

    def caption(
        self,
        vision: Float[Tensor, "batch vision_tokens vision_width"],
        input_ids: Int[Tensor, "batch tokens"],
        max_new_tokens: int,
        eos_token_id: int | None = None,
    ) -> Int[Tensor, "batch new"]:
        """Return greedily written captions, shape (batch, up to max_new_tokens).

        Args:
            vision: What the tower has seen, shape (batch, 1 + patches, vision width).
            input_ids: The prompt with its beginning and without end or padding.
            max_new_tokens: Most tokens to write.
            eos_token_id: Ends a row, which is then filled with zeros.
        """
        queries = self.query_tokens.expand(vision.shape[0], -1, -1)
        return self.qllama.generate(input_ids, max_new_tokens, eos_token_id, prefix=queries, vision=vision)


class GenerativeObjective(nn.Module):
    """Stage 2: contrast, matching and captioning through one QLLaMA, in equal shares (section 3.3)."""

    def __init__(self, model: InternVL) -> None:
        """Wrap InternVL-G."""
        super().__init__()
        self.model = model

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Float[Tensor, ""]]:
        """Return `loss` and its three terms.

        Args:
            batch: `vision`, what the frozen tower saw (batch, 1 + patches, vision width); `text_features`,
                unit vectors of the frozen text tower (batch, embed_dim); `itm_input_ids`, `itm_attention_mask`,
                `itm_labels`; `itg_input_ids`, `itg_attention_mask`, `itg_labels`.
        """
        model = self.model
        clamp_logit_scale(model)
        hidden, cache = model.ask(batch["vision"])
        itc = info_nce(
            model.pool_queries(hidden),
            batch["text_features"],
            model.logit_scale.exp(),
            label_smoothing=model.config.label_smoothing,
        ).loss
        judged = model.match(batch["vision"], batch["itm_input_ids"], batch["itm_attention_mask"])
        itm = matching_loss(judged, batch["itm_labels"])
        logits = model.describe(cache, batch["itg_input_ids"], batch["itg_attention_mask"])
        itg = caption_loss(logits, batch["itg_labels"])
        return {"loss": itc + itm + itg, "itc": itc, "itm": itm, "itg": itg}


def clamp_logit_scale(model: InternVL) -> None:
    """Keep the learned scale at 100 or below, in place."""
    with torch.no_grad():
        model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
