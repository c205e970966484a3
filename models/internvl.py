"""InternVL-C and InternVL-G: one class, the official weight names (arXiv:2312.14238, section 3.3).

InternVL-C compares a picture with a text through two towers. InternVL-G adds queries that look at
the picture from inside the text tower (QLLaMA): a second view for retrieval, a judge of matching
pairs, and captions.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from models.config import InternVLConfig
from models.intern_vit import InternVisionModel
from models.layers import wide
from models.packing import Packing
from models.pooling import AttentionPooling
from models.qllama import Cache, LlamaForCausalLM, Looks, ask_queries, causal_mask
from models.renaming import fill

LOGIT_SCALE = math.log(1 / 0.07)
MAX_LOGIT_SCALE = math.log(100)
"""CLIP's own limit (arXiv:2103.00020, section 2.5); the InternVL paper names none."""
PADDING_PAYS = 0.85
"""Share of tokens in a padded batch of texts above which padding costs less than going without it."""


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
            WeightsError: A weight is missing, unknown or of another shape.
        """
        model = cls(config, generative="query_tokens" in state)
        fill(model, state, "this InternVL")
        return model

    # InternVL-C

    def see(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | Float[Tensor, "batch kept values"],
        keep_patches: Bool[Tensor, "batch rows columns"] | None = None,
        noise: Int64[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch vision_tokens vision_width"]:
        """Return what the vision tower sees, shape (batch, 1 + patches, vision width); arguments as it takes them."""
        return torch.as_tensor(self.vision_model(pixel_values, keep_patches, noise).last_hidden_state)

    def encode_image(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | Float[Tensor, "batch kept values"],
        keep_patches: Bool[Tensor, "batch rows columns"] | None = None,
        noise: Int64[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return InternVL-C's picture vectors, of unit length; arguments as the vision tower takes them."""
        return self.pool_image(self.see(pixel_values, keep_patches, noise))

    def pool_image(
        self, vision: Float[Tensor, "batch vision_tokens vision_width"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return unit vectors for what the tower has seen: all tokens, the class token among them."""
        return F.normalize(self.project_image(vision), dim=-1)

    def project_image(
        self, vision: Float[Tensor, "batch vision_tokens vision_width"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return InternVL-C's picture vectors as the projection gives them, of any length."""
        return wide(self.clip_projector(vision))

    def encode_text(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return text vectors of unit length, the same for C and G.

        Args:
            input_ids: `summarize:` and the caption, begun and ended, padded on the right.
            attention_mask: 1 for tokens, 0 for padding.
        """
        return F.normalize(wide(self.project_text(input_ids, attention_mask)), dim=-1)

    def project_text(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return text vectors as the projection gives them, of any length.

        Where captions differ much in length they pass the tower end to end in one row, none seeing another: no work
        is spent on padding (docs/decisions/0006-unpadded-text.md).
        """
        tower, packing = self.qllama.model, Packing.end_to_end(attention_mask)
        if sum(packing.lengths) > PADDING_PAYS * input_ids.numel():
            # With padding on the right alone, a causal token never sees it: no mask, and the fast kernel.
            hidden, _ = tower(tower.embed_tokens(input_ids))
            ended = hidden[torch.arange(len(hidden), device=hidden.device), attention_mask.sum(dim=1) - 1]
        else:
            hidden, _ = tower(tower.embed_tokens(input_ids[attention_mask.bool()][None]), packing=packing)
            ended = hidden[0, packing.starts[1:].long() - 1]
        return torch.as_tensor(ended @ self.text_projection)

    def similarity(
        self, image_features: Float[Tensor, "pictures embed_dim"], text_features: Float[Tensor, "texts embed_dim"]
    ) -> Float[Tensor, "pictures texts"]:
        """Return scaled similarities."""
        return self.logit_scale.exp() * image_features @ text_features.T

    # InternVL-G

    def ask(
        self, vision: Float[Tensor, "batch vision_tokens vision_width"], looks: Looks | None = None
    ) -> tuple[Float[Tensor, "batch queries width"], Cache]:
        """Let the queries look: their hidden states, and keys and values for text.

        Queries see each other but never a text, so retrieval and captioning share this one pass. `looks`, an
        empty list, is filled with what `match` needs to spare looking again.
        """
        return ask_queries(self.qllama.model, self.query_tokens, vision, looks)

    def pool_queries(self, hidden: Float[Tensor, "batch queries width"]) -> Float[Tensor, "batch embed_dim"]:
        """Return unit vectors of the queries alone."""
        return F.normalize(wide(self.clip_projector2(hidden)), dim=-1)

    def encode_image_g(
        self, pixel_values: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return InternVL-G's picture vectors: both views in equal shares, of unit length."""
        return self.mix_views(self.see(pixel_values))

    def mix_views(
        self, vision: Float[Tensor, "batch vision_tokens vision_width"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return InternVL-G's picture vectors for what the tower has seen."""
        return F.normalize(self.add_views(vision), dim=-1)

    def add_views(
        self, vision: Float[Tensor, "batch vision_tokens vision_width"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return the sum of both views' unit vectors: the longer, the more the views agree."""
        return self.pool_image(vision) + self.pool_queries(self.ask(vision)[0])

    def match(
        self,
        vision: Float[Tensor, "batch vision_tokens vision_width"],
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
        looks: Looks | None = None,
    ) -> Float[Tensor, "batch 2"]:
        """Return logits of shape (batch, 2): column 1 says that caption and picture belong together.

        Queries and text see each other in both directions; the caption has no prefix here. `looks` are those
        of `ask` for the same rows.
        """
        queries = self.query_tokens.expand(vision.shape[0], -1, -1)
        count = queries.shape[1]
        embedded = torch.cat([queries, self.qllama.model.embed_tokens(input_ids)], dim=1)
        seen = torch.cat([attention_mask.new_ones(attention_mask.shape[0], count), attention_mask], dim=1).bool()
        mask = seen[:, None, None, :].expand(-1, 1, embedded.shape[1], -1)
        hidden, _ = self.qllama.model(embedded, mask, vision=vision, queries=count, looks=looks, cached=False)
        return torch.as_tensor(self.itm_head(hidden[:, :count]).mean(dim=1))

    def read_on(
        self, queries: Cache, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Return hidden states of a caption that is read after the queries.

        Args:
            queries: The keys and values that `ask` returned.
            input_ids: Prompt and caption, padded on the right.
            attention_mask: 1 for tokens, 0 for padding.
        """
        text = causal_mask(attention_mask)
        seen = text.new_ones(*text.shape[:3], queries[0][0].shape[2])
        embedded = self.qllama.model.embed_tokens(input_ids)
        hidden, _ = self.qllama.model(embedded, torch.cat([seen, text], dim=-1), past=queries, cached=False)
        return torch.as_tensor(hidden)

    def describe(
        self, queries: Cache, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Return next-token logits of a caption after the queries; arguments as of `read_on`."""
        return torch.as_tensor(self.qllama.lm_head(self.read_on(queries, input_ids, attention_mask)))

    def caption(
        self,
        vision: Float[Tensor, "batch vision_tokens vision_width"],
        input_ids: Int[Tensor, "batch tokens"],
        max_new_tokens: int,
        eos_token_id: int | None = None,
        *,
        min_new_tokens: int = 0,
        beams: int = 1,
    ) -> Int[Tensor, "batch new"]:
        """Return written captions, shape (batch, up to max_new_tokens).

        Args:
            vision: What the tower has seen, shape (batch, 1 + patches, vision width).
            input_ids: The prompt with its beginning and without end or padding.
            max_new_tokens: Most tokens to write.
            eos_token_id: Ends a row, which is then filled with zeros.
            min_new_tokens: No row ends before it has as many.
            beams: One writes greedily; see `LlamaForCausalLM.generate`.
        """
        queries = self.query_tokens.expand(vision.shape[0], -1, -1)
        return self.qllama.generate(
            input_ids,
            max_new_tokens,
            eos_token_id,
            prefix=queries,
            vision=vision,
            min_new_tokens=min_new_tokens,
            beams=beams,
        )


def clamp_logit_scale(model: InternVL) -> None:
    """Keep the learned scale at 100 or below, in place."""
    with torch.no_grad():
        model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
