"""LLaMA, and QLLaMA: the same decoder whose first positions are queries that look at a picture.

One class serves the text tower of the contrastive stage, the language stage, and the generative
stage (arXiv:2312.14238, sections 3.2 and 3.3): cross-attention exists only where the width of a
vision model is given.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention import band
from models.beams import beam_search
from models.config import TextConfig
from models.decoder_layer import KeysValues, LlamaDecoderLayer, Shown
from models.layers import Linear, RMSNorm
from models.packing import Packing
from models.rotary import outgrows, rotary

Cache = list[KeysValues]
"""Of every layer, from the first."""
Looks = list[Shown | None]
"""Keys and values of pictures, of every layer; None where a layer does not look."""


class LlamaModel(nn.Module):
    """The decoder without its head.

    With `gradient_checkpointing` a layer's inside is computed again for the backward pass instead of kept.
    """

    def __init__(
        self, config: TextConfig, vision_width: int | None = None, cross_attention_frequency: int = 2
    ) -> None:
        """Allocate; every `cross_attention_frequency`-th layer from the first has cross-attention."""
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            LlamaDecoderLayer(config, vision_width if number % cross_attention_frequency == 0 else None)
            for number in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.apply(_initialise)

    def forward(
        self,
        embedded: Float[Tensor, "batch tokens width"],
        mask: Bool[Tensor, "#batch 1 #tokens seen"] | None = None,
        *,
        past: Cache | None = None,
        vision: Float[Tensor, "pictures vision_tokens vision_width"] | None = None,
        queries: int = 0,
        packing: Packing | None = None,
        looks: Looks | None = None,
        cached: bool = True,
    ) -> tuple[Float[Tensor, "batch tokens width"], Cache]:
        """Run the decoder.

        Args:
            embedded: Shape (batch, tokens, width).
            mask: Who may see whom, booleans of shape (batch, 1, tokens, all tokens so far); causal when left out.
                A sliding window hides more, by places in the row.
            past: What an earlier call returned, to go on from there.
            vision: Hidden states of the vision encoder, shape (pictures, patches + 1, vision width); with fewer
                pictures than rows, all of them again for each so many rows.
            queries: How many of the first positions are queries.
            packing: Samples that share rows: positions begin anew with each, and none sees another.
                Not together with `mask`, `past` or `queries`.
            looks: Several passes over the same pictures share keys and values of them: an empty list is filled
                here, a filled one is used.
            cached: Keep keys and values of all layers for a call that goes on from here. Training wants none: with
                `gradient_checkpointing` they would be most of what is left in memory.

        Returns:
            Normed hidden states of shape (batch, tokens, width), and the cache, which is empty unless `cached`.

        Raises:
            ValueError: Packed rows are to be gone on from, or hold queries; or a cached short text becomes a long
                one, all of whose numbers are others (see `outgrows`).
        """
        if packing is not None and (past is not None or queries):
            raise ValueError("packed rows have neither a cache nor queries; give each sample a row of its own")
        config, device, start = self.config, embedded.device, seen_by(past)
        end = start + embedded.shape[1]
        if outgrows(config, start, embedded.shape[1]):
            raise ValueError(
                f"{end} tokens are more than rope_scaling.original_max_position_embeddings: the cache of the first "
                f"{start} holds no longer; read the whole text anew, as generate does"
            )
        positions = torch.arange(start, end, device=device)[None]
        if packing is None:
            turn = rotary(config, positions, torch.tensor([[end]], device=device))
        else:
            turn = rotary(config, packing.positions, packing.lengths_of_tokens())
        keys, window = torch.arange(end, device=device), config.sliding_window or end
        if mask is None and past and (embedded.shape[1] > 1 or end > window):
            mask = band(positions[0], keys, window)[None, None]
        elif mask is not None and end > window:
            mask = mask & (positions[0][:, None] - keys < window)
        hidden, cache, found = embedded, Cache(), Looks()
        for number, layer in enumerate(self.layers):
            seen = looks[number] if looks else None
            given = (hidden, turn, mask, past[number] if past else None, vision, queries, packing, seen)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden, kept, seen = checkpoint(layer, *given, use_reentrant=False)
            else:
                hidden, kept, seen = layer(*given)
            if cached:
                cache.append(kept)
            found.append(seen)
        if looks is not None and not looks:
            looks += found
        return self.norm(hidden), cache


def ask_queries(
    model: LlamaModel,
    query_tokens: Float[Tensor, "1 queries width"],
    vision: Float[Tensor, "batch vision_tokens vision_width"],
    looks: Looks | None = None,
) -> tuple[Float[Tensor, "batch queries width"], Cache]:
    """Let queries look at pictures: they see each other both ways, and no text.

    Returns:
        Their hidden states, and keys and values for a text that reads on.
    """
    queries = query_tokens.expand(vision.shape[0], -1, -1)
    count = queries.shape[1]
    everything = torch.ones(1, 1, count, count, dtype=torch.bool, device=vision.device)
    hidden, cache = model(queries, everything, vision=vision, queries=count, looks=looks)
    return hidden, cache


def seen_by(past: Cache | None) -> int:
    """Return how many tokens a cache holds."""
    return past[0][0].shape[2] if past else 0


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def causal_mask(attention_mask: Int[Tensor, "batch tokens"]) -> Bool[Tensor, "batch 1 tokens tokens"]:
    """Return (batch, 1, tokens, tokens): each token sees itself and earlier ones that are not padding."""
    tokens = attention_mask.shape[1]
    below = torch.ones(tokens, tokens, dtype=torch.bool, device=attention_mask.device).tril()
    seen = below[None] & attention_mask[:, None, :].bool()
    # A row of padding that sees nothing would turn into NaN: it sees itself, and nobody reads it.
    itself = torch.eye(tokens, dtype=torch.bool, device=attention_mask.device)
    return (seen | itself)[:, None]


class LlamaForCausalLM(nn.Module):
    """The decoder with its head, under the names that transformers uses."""

    def __init__(
        self, config: TextConfig, vision_width: int | None = None, cross_attention_frequency: int = 2
    ) -> None:
        """Allocate; the head is not tied to the embeddings."""
        super().__init__()
        self.config = config
        self.model = LlamaModel(config, vision_width, cross_attention_frequency)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        nn.init.normal_(self.lm_head.weight, std=0.02)

    def forward(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Return logits."""
        mask = causal_mask(attention_mask) if attention_mask is not None else None
        hidden, _ = self.model(self.model.embed_tokens(input_ids), mask, cached=False)
        return torch.as_tensor(self.lm_head(hidden))

    @torch.no_grad()
    def generate(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        max_new_tokens: int,
        eos_token_id: int | None = None,
        *,
        prefix: Float[Tensor, "batch queries width"] | None = None,
        vision: Float[Tensor, "batch vision_tokens vision_width"] | None = None,
        min_new_tokens: int = 0,
        beams: int = 1,
    ) -> Int[Tensor, "batch new"]:
        """Return chosen tokens of shape (batch, up to max_new_tokens); ended rows are filled with zeros.

        Args:
            input_ids: Prompt without padding.
            max_new_tokens: Most tokens to add.
            eos_token_id: A row ends with it.
            prefix: Query embeddings in front of the prompt.
            vision: What the queries look at.
            min_new_tokens: No row ends before it has as many.
            beams: One takes the likeliest token each time; several search (`models.beams`), and need an end.

        Raises:
            ValueError: Beams are to search for texts that have no end.
        """
        embedded = self.model.embed_tokens(input_ids)
        queries = 0 if prefix is None else prefix.shape[1]
        front = embedded if prefix is None else torch.cat([prefix, embedded], dim=1)
        writer = _Writer(self, front, queries, vision)
        if beams == 1:
            return _greedy(writer, max_new_tokens, eos_token_id, min_new_tokens)
        if eos_token_id is None:
            raise ValueError(f"{beams} beams compare texts that have ended; say which token ends one")
        logits = writer.begin()
        writer.widen(beams)
        return beam_search(
            logits,
            writer.go_on,
            beams=beams,
            max_new_tokens=max_new_tokens,
            eos_token_id=eos_token_id,
            min_new_tokens=min_new_tokens,
        )


class _Writer:
    """Reads a prompt and what is written after it; each reading gives the logits of the next token."""

    def __init__(self, language_model: LlamaForCausalLM, front: Tensor, queries: int, vision: Tensor | None) -> None:
        self._model, self._head = language_model.model, language_model.lm_head
        self._front, self._queries, self._vision = front, queries, vision
        self._cache: Cache = []

    def begin(self) -> Tensor:
        """Read the prompt, queries in front of it included."""
        return self._read(self._front)

    def widen(self, copies: int) -> None:
        """Go on with several rows for each prompt."""
        self._front = self._front.repeat_interleave(copies, dim=0)
        self._cache = [
            (keys.repeat_interleave(copies, 0), values.repeat_interleave(copies, 0)) for keys, values in self._cache
        ]
        if self._vision is not None:
            self._vision = self._vision.repeat_interleave(copies, dim=0)

    def go_on(self, written: Tensor, order: Tensor | None = None) -> Tensor:
        """Read the newest token of each row, which goes on from the row that `order` names, or from itself."""
        if order is not None:
            self._cache = [(keys[order], values[order]) for keys, values in self._cache]
        if outgrows(self._model.config, seen_by(self._cache), 1):
            return self._read(torch.cat([self._front, self._model.embed_tokens(written)], dim=1))
        hidden, self._cache = self._model(self._model.embed_tokens(written[:, -1:]), past=self._cache)
        return torch.as_tensor(self._head(hidden[:, -1]))

    def _read(self, embedded: Tensor) -> Tensor:
        mask = _after_queries(self._queries, embedded) if self._queries else None
        hidden, self._cache = self._model(embedded, mask, vision=self._vision, queries=self._queries)
        return torch.as_tensor(self._head(hidden[:, -1]))


def _greedy(writer: _Writer, max_new_tokens: int, eos_token_id: int | None, min_new_tokens: int) -> Tensor:
    """Return the likeliest tokens, one after the other."""
    logits = writer.begin()
    ended = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    written = torch.zeros(len(logits), 0, dtype=torch.long, device=logits.device)
    while True:
        if eos_token_id is not None and written.shape[1] < min_new_tokens:
            logits[:, eos_token_id] = -torch.inf
        token = logits.argmax(dim=-1).masked_fill(ended, 0)
        written = torch.cat([written, token[:, None]], dim=1)
        if eos_token_id is not None:
            ended = ended | (token == eos_token_id)
        if bool(ended.all()) or written.shape[1] == max_new_tokens:
            return written
        logits = writer.go_on(written)


def _after_queries(queries: int, embedded: Float[Tensor, "batch tokens width"]) -> Bool[Tensor, "1 1 tokens tokens"]:
    """Return a causal mask in which the queries in front see each other both ways."""
    tokens = embedded.shape[1]
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=embedded.device).tril()
    seen[:queries, :queries] = True
    return seen[None, None]
