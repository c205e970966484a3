"""InternVL-Chat: a vision encoder, a small connector, and a language model that reads pictures as tokens."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from models.config import ChatConfig
from models.connectors import Connected
from models.intern_vit import InternVisionModel
from models.lora import TokenNoise
from models.losses import shared
from models.objective import SAMPLE_LOSS, Named
from models.packing import Packing, learned_places
from models.qllama import LlamaForCausalLM, causal_mask, seen_by
from models.rotary import outgrows
from models.sampling import Sampling
from models.vocabulary_loss import Predicted, predicted

IGNORE = -100
GREEDY = Sampling()


class InternVLChat(Connected):
    """The chat model under the official weight names `vision_model.*`, `mlp1.*`, `language_model.*`.

    It is trained with the next-token loss alone (arXiv:2312.14238, section 3.4). `models.connectors` has the names of
    connectors of other kinds than `mlp1`.
    """

    def __init__(self, config: ChatConfig) -> None:
        """Allocate all three parts."""
        super().__init__()
        self.config = config
        self.vision_model = InternVisionModel(config.vision)
        self._connect(config)
        self.language_model = LlamaForCausalLM(config.text)
        # What dropout of adapters is drawn from, where there is any (`models.lora`).
        self.vision_noise, self.language_noise = TokenNoise(), TokenNoise()

    def image_features(
        self, pixel_values: Float[Tensor, "tiles channels height width"], noise: Int64[Tensor, " tiles"] | None = None
    ) -> Float[Tensor, "tiles places text_width"]:
        """Return what the language model sees of tiles, shape (tiles, tokens per tile, text width)."""
        if noise is not None:
            places = torch.arange(self.config.vision.grid**2 + 1, device=noise.device)[None]
            self.vision_noise.draw(noise[:, None].expand(-1, places.shape[1]), places)
        seen = self.vision_model(pixel_values, noise=noise, only=self.config.select_layer)
        return self._shown(seen, self.config)

    def embed(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        pixel_values: Float[Tensor, "tiles channels height width"] | None = None,
        image_flags: Int[Tensor, " tiles"] | Int[Tensor, "tiles 1"] | None = None,
        noise: Int64[Tensor, " tiles"] | None = None,
    ) -> Float[Tensor, "batch tokens text_width"]:
        """Return token embeddings with pictures in the places of their context tokens.

        Args:
            input_ids: Shape (batch, tokens).
            pixel_values: Tiles of all samples in order, shape (tiles, 3, height, width).
            image_flags: 0 for a tile that stands for no picture, shape (tiles,) or (tiles, 1).
            noise: A random number per tile, for stochastic depth in training.

        Returns:
            Shape (batch, tokens, text width).

        Raises:
            ValueError: Context tokens and pictures differ in number. (The official code cuts one of
                them and takes the loss times zero.)
        """
        embedded = self.language_model.model.embed_tokens(input_ids)
        places = input_ids == self.config.image_context_token_id
        seen = embedded.new_zeros(0, embedded.shape[-1])
        if pixel_values is not None:
            features = self.image_features(pixel_values, noise)
            if image_flags is not None:
                features = features[image_flags.view(-1) == 1]
            seen = features.flatten(0, 1).to(embedded.dtype)
        if int(places.sum()) != len(seen):
            raise ValueError(f"{int(places.sum())} context tokens for {len(seen)} tokens of pictures")
        return torch.as_tensor(embedded.masked_scatter(places[..., None], seen))

    def logits(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
        pixel_values: Float[Tensor, "tiles channels height width"] | None = None,
        image_flags: Int[Tensor, " tiles"] | Int[Tensor, "tiles 1"] | None = None,
        sample_index: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Return next-token logits; see `embed` and `forward`.

        In packed rows (`sample_index`) padding is a sample of its own, and `attention_mask` is not needed.
        """
        embedded = self.embed(input_ids, pixel_values, image_flags)
        if sample_index is not None:
            hidden, _ = self.language_model.model(embedded, packing=Packing.of(sample_index), cached=False)
        else:
            hidden, _ = self.language_model.model(embedded, causal_mask(attention_mask), cached=False)
        return torch.as_tensor(self.language_model.lm_head(hidden))

    def counts(self, batch: Named) -> dict[str, Float[Tensor, ""]]:
        """Return over how many tokens, or how much weight, each loss is a mean; see `models.objective.Objective`."""
        learned = learned_places(batch["labels"], batch.get("sample_index"), IGNORE)
        tokens = learned.sum().float()
        weights = batch["loss_weights"][learned].float().sum() if "loss_weights" in batch else tokens
        return {"loss": weights, "token_accuracy": tokens}

    def predict(self, batch: Named) -> tuple[Predicted, Bool[Tensor, "batch places"]]:
        """Return what is predicted at each learned place, given the right text so far, and which places these are.

        Args:
            batch: As for `forward`; places are in its order, and a place predicts the token behind it.
        """
        shown = (batch.get(name) for name in ("pixel_values", "image_flags", "noise"))
        embedded = self.embed(batch["input_ids"], *shown)
        index = batch.get("sample_index")
        packing = None if index is None else Packing.of(index)
        if "sample_noise" in batch:
            self._draw(batch["sample_noise"], batch["input_ids"], packing, index)
        # Nothing looks ahead, so padding on the right needs no mask, and flash attention can run.
        hidden, _ = self.language_model.model(embedded, packing=packing, cached=False)
        learned = learned_places(batch["labels"], index, IGNORE)
        # Answers are a small share of the tokens: the head works on their places alone.
        wanted = batch["labels"][:, 1:][learned]
        return predicted(self.language_model.lm_head, hidden[:, :-1][learned], wanted), learned

    def forward(self, batch: Named, totals: Named | None = None) -> dict[str, Tensor]:
        """Return the mean loss over all learned tokens of the step, the share that was right, and each sample's loss.

        Args:
            batch: `input_ids` and `labels` (IGNORE where nothing is learned) of shape (batch, tokens),
                padded on the right, and `pixel_values` where there are pictures. Where several samples
                share a row: `sample_index`, each token's sample by its number in the batch and a number of its
                own for padding, shape (batch, tokens); and `loss_weights` of shape (batch, tokens - 1)
                where learned tokens do not weigh the same. `noise` of each tile for stochastic depth, and
                `sample_noise` of each sample for dropout of adapters, int64.
            totals: Of the step, as `models.objective.totals_of` gives them.
        """
        (each, right), learned = self.predict(batch)
        weights = torch.ones_like(each)
        if "loss_weights" in batch:
            weights = batch["loss_weights"][learned].float()
        given = totals or {}
        return {
            "loss": shared((each * weights).sum(), weights.sum(), given.get("loss")),
            "token_accuracy": shared(right.sum().float(), learned.sum(), given.get("token_accuracy")),
            SAMPLE_LOSS: _by_sample((each * weights).detach(), weights, _owners(learned, batch.get("sample_index"))),
        }

    def _draw(
        self,
        noise: Int64[Tensor, " samples"],
        input_ids: Int[Tensor, "batch tokens"],
        packing: Packing | None,
        index: Int[Tensor, "batch tokens"] | None,
    ) -> None:
        """Give each token bits of its sample and of its place there; those of padding are never read."""
        if packing is None or index is None:
            places = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
            self.language_noise.draw(noise[:, None].expand_as(input_ids), places)
        else:
            self.language_noise.draw(noise[index.clamp(min=0)], packing.positions)

    def generate(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
        pixel_values: Float[Tensor, "tiles channels height width"] | None = None,
        *,
        max_new_tokens: int,
        stop: Sequence[int] = (),
        sampling: Sampling = GREEDY,
        min_new_tokens: int = 0,
    ) -> Int[Tensor, "batch new"]:
        """Return chosen tokens of shape (batch, up to max_new_tokens), each row ended by a stop token (`stream`)."""
        chosen = self.stream(
            input_ids,
            attention_mask,
            pixel_values,
            max_new_tokens=max_new_tokens,
            stop=stop,
            sampling=sampling,
            min_new_tokens=min_new_tokens,
        )
        return torch.stack(list(chosen), dim=1)

    @torch.no_grad()
    def stream(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
        pixel_values: Float[Tensor, "tiles channels height width"] | None = None,
        *,
        max_new_tokens: int,
        stop: Sequence[int] = (),
        sampling: Sampling = GREEDY,
        min_new_tokens: int = 0,
    ) -> Iterator[Int[Tensor, " batch"]]:
        """Yield the next token of each row, shape (batch,), until all have ended or there are enough.

        Where LongRoPE's factors change with the length of a text, all of it is read anew once, as transformers'
        Phi3ForCausalLM does.

        Args:
            input_ids: Prompts, padded on the left.
            attention_mask: 0 where padded. Rotary positions are relative, so padding shifts nothing.
            pixel_values: As for `embed`.
            max_new_tokens: Most tokens to add.
            stop: Tokens that end an answer; an ended row is filled with the first of them.
            sampling: How they are chosen; the likeliest when left out.
            min_new_tokens: No answer ends before it has as many.
        """
        model, choose = self.language_model, sampling.chooser()
        pieces = [self.embed(input_ids, pixel_values)]
        hidden, cache = model.model(pieces[0], causal_mask(attention_mask))
        seen = attention_mask.bool()
        stops = torch.tensor(list(stop), dtype=torch.long, device=input_ids.device)
        ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for number in range(max_new_tokens):
            logits = model.lm_head(hidden[:, -1])
            if number < min_new_tokens:
                logits[:, stops] = -torch.inf
            token = choose(logits)
            if stop:
                token = token.masked_fill(ended, stop[0])
                ended = ended | torch.isin(token, stops)
            yield token
            if bool(ended.all()) or number + 1 == max_new_tokens:
                return
            seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
            pieces.append(model.model.embed_tokens(token[:, None]))
            if outgrows(self.config.text, seen_by(cache), 1):
                hidden, cache = model.model(torch.cat(pieces, dim=1), causal_mask(seen.long()))
            else:
                hidden, cache = model.model(pieces[-1], seen[:, None, None], past=cache)


def _owners(
    learned: Bool[Tensor, "batch places"], sample_index: Int[Tensor, "batch tokens"] | None
) -> Int[Tensor, " learned"]:
    """Return the sample of each learned place: the number that packing gave it, else its row."""
    rows = torch.arange(len(learned), device=learned.device)[:, None].expand_as(learned)
    return (rows if sample_index is None else sample_index[:, 1:])[learned]


def _by_sample(
    losses: Float[Tensor, " learned"], weights: Float[Tensor, " learned"], owners: Int[Tensor, " learned"]
) -> Float[Tensor, " samples"]:
    """Return the mean loss of each sample; every sample has something to learn."""
    samples = int(owners.max()) + 1 if len(owners) else 0
    sums, units = losses.new_zeros(2, samples).unbind()
    smallest = torch.finfo(units.dtype).tiny
    return sums.index_add(0, owners, losses) / units.index_add(0, owners, weights).clamp(min=smallest)
