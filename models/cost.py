"""What a model costs: multiply-accumulates of a forward pass, and bytes of weights, gradients and AdamW's state.

Matrix products are counted and nothing else, as `torch.utils.flop_counter` does. Attention counts all pairs of
tokens: a kernel that leaves out the masked half of a causal one does up to half of that part less. One
multiply-accumulate is two FLOPs; a training step is three forward passes, four where every block is computed again.
"""

from dataclasses import dataclass

from models.composition import Size
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig


@dataclass(frozen=True)
class Work:
    """One forward pass of something, in multiply-accumulates; `trained` where training does just this too."""

    label: str
    macs: int
    trained: bool = True


def vision_macs(config: VisionConfig, image_size: int | None = None, kept: int | None = None) -> int:
    """Return the cost of one picture.

    Args:
        config: Shape of the encoder.
        image_size: Side in pixels; the trained one when left out.
        kept: Patches that are seen where others are masked; all when left out.
    """
    width, patches = config.hidden_size, kept or ((image_size or config.image_size) // config.patch_size) ** 2
    tokens = patches + 1
    block = tokens * (4 * width**2 + 2 * width * config.intermediate_size) + 2 * tokens**2 * width
    return config.num_hidden_layers * block + patches * config.num_channels * config.patch_size**2 * width


def token_macs(config: TextConfig) -> int:
    """Return the cost of one token in the decoder's blocks, attention to other tokens aside."""
    width = config.hidden_size
    key_heads = config.num_key_value_heads or config.num_attention_heads
    keys = width // config.num_attention_heads * key_heads
    return config.num_hidden_layers * (2 * width**2 + 2 * width * keys + 3 * width * config.intermediate_size)


def decoder_macs(config: TextConfig, tokens: int, *, past: int = 0, head: bool = False) -> int:
    """Return the cost of a text in the decoder.

    Args:
        config: Shape of the decoder.
        tokens: How many are computed.
        past: How many before them are cached and only looked at.
        head: Whether next-token logits are computed for each.
    """
    looks = config.num_hidden_layers * 2 * tokens * (past + tokens) * config.hidden_size
    logits = tokens * config.vocab_size * config.hidden_size if head else 0
    return tokens * token_macs(config) + looks + logits


def pooling_macs(width: int, tokens: int, embed_dim: int) -> int:
    """Return the cost of pooling tokens into one vector of the shared space."""
    return (2 * tokens + 1) * width**2 + 2 * tokens * width + width * embed_dim


def query_macs(config: InternVLConfig, seen: int) -> int:
    """Return the cost of QLLaMA's queries looking at `seen` vision tokens, the class token among them."""
    width, queries = config.text.hidden_size, config.num_query_token
    layers = -(-config.text.num_hidden_layers // config.cross_attention_frequency)
    look = 2 * queries * width**2 + 2 * seen * config.vision.hidden_size * width + 2 * queries * seen * width
    return decoder_macs(config.text, queries) + layers * look


def connector_macs(size: Size, image_size: int | None = None) -> int:
    """Return the cost of one tile in a chat model's connector.

    Raises:
        ValueError: It is no chat model.
    """
    if size.chat is None or size.vision is None or size.language is None:
        raise ValueError(f"{size.name} is no chat model: it has no connector")
    width, seen = size.language.shape.hidden_size, size.vision.hidden_size
    grid = (image_size or size.vision.image_size) // size.vision.patch_size
    if size.chat.connector == "unshuffle_mlp":
        return unshuffle_macs(grid, int(1 / size.chat.downsample_ratio), seen, width)
    macs = grid**2 * (seen * width + width**2)
    if size.chat.connector == "two_mlp" and size.towers is not None:
        macs += query_connector_macs(size.towers, width)
    return macs


def query_connector_macs(towers: InternVLConfig, width: int) -> int:
    """Return the cost of QLLaMA's queries in the MLP that brings them to a language model's width."""
    return towers.num_query_token * (towers.text.hidden_size * width + width**2)


def unshuffle_macs(grid: int, cell: int, seen: int, width: int) -> int:
    """Return the cost of one tile's `grid` x `grid` tokens of width `seen`, folded in cells, in the MLP behind."""
    return (grid // cell) ** 2 * (seen * cell**2 * width + width**2)


@dataclass(frozen=True)
class ConversationCost:
    """What a conversation costs in a training step, whoever shares its row: attention stays within it."""

    tile: int
    token: int
    pair: int
    """Two tokens that look at each other: times the square of the length."""
    learned: int
    """A place that predicts: the vocabulary head works on these alone."""

    @classmethod
    def of(
        cls, config: ChatConfig, *, vision_learns: bool = True, language_learns: bool = True
    ) -> "ConversationCost":
        """Count it for a model: a pass forward, one back to what is before, one for gradients of what learns.

        Nothing goes back through an encoder that does not learn, nor through QLLaMA then, which never learns itself;
        queries and keys both have gradients, always.
        """
        vision, text = config.vision, config.text
        connector = unshuffle_macs(vision.grid, config.cell, vision.hidden_size, text.hidden_size)
        queries = 0
        if config.towers is not None:
            queries = (2 if vision_learns else 1) * query_macs(config.towers, vision.grid**2 + 1)
            connector += query_connector_macs(config.towers, text.hidden_size)
        passes = 3 if language_learns else 2
        return cls(
            tile=(3 if vision_learns else 1) * vision_macs(vision) + queries + 3 * connector,
            token=passes * token_macs(text),
            pair=3 * 2 * text.num_hidden_layers * text.hidden_size,
            learned=passes * text.vocab_size * text.hidden_size,
        )

    def __call__(self, tokens: int, tiles: int, learned: int) -> int:
        """Return the multiply-accumulates of a conversation."""
        return self.tile * tiles + self.token * tokens + self.pair * tokens**2 + self.learned * learned


def forward_work(
    size: Size, *, image_size: int | None = None, text_tokens: int | None = None, tiles: int = 1
) -> list[Work]:
    """Return what one picture, one token, one text and one pair cost.

    Args:
        size: Which model.
        image_size: Side of a picture or tile in pixels; the trained one when left out.
        text_tokens: Length of a text; the towers' context or 128 when left out.
        tiles: Tiles of a picture in a chat, the thumbnail counted.

    Raises:
        ValueError: A picture does not divide into patches.
    """
    found: list[Work] = []
    if size.vision is not None:
        side = image_size or size.vision.image_size
        if side % (size.vision.patch_size * (_cell(size))):
            raise ValueError(f"{size.name}: a picture of {side} pixels does not divide into its patches or tokens")
        patches = (side // size.vision.patch_size) ** 2
        what = "tile" if size.chat else "image"
        found.append(Work(f"per {what}, encoder, {side} px, {patches + 1} tokens", vision_macs(size.vision, side)))
        if size.kind in ("vision", "contrastive"):
            half = vision_macs(size.vision, side, max(1, patches // 2))
            found.append(Work(f"per image, encoder, half masked, {max(1, patches // 2) + 1} tokens", half))
    if size.kind in ("contrastive", "generative") and size.towers is not None:
        found += _tower_work(size, size.towers, side, text_tokens or size.towers.context_length)
    elif size.language is not None:
        found += _language_work(size, image_size, text_tokens or 128, tiles)
    return found


def _cell(size: Size) -> int:
    return int(1 / size.chat.downsample_ratio) if size.chat is not None else 1


def _tower_work(size: Size, config: InternVLConfig, side: int, tokens: int) -> list[Work]:
    seen = (side // config.vision.patch_size) ** 2 + 1
    image = vision_macs(config.vision, side) + pooling_macs(config.vision.hidden_size, seen, config.embed_dim)
    text = decoder_macs(config.text, tokens) + config.text.hidden_size * config.embed_dim
    found = [
        Work("per image, with pooling (C)", image),
        Work("per text token, weights alone", token_macs(config.text)),
        Work(f"per text of {tokens} tokens", text),
        Work(f"per pair (C), text of {tokens} tokens", image + text),
    ]
    if size.kind == "generative":
        queries = query_macs(config, seen)
        pooling = pooling_macs(config.text.hidden_size, config.num_query_token, config.embed_dim)
        both = image + queries + pooling
        found += [
            Work(f"per image, {config.num_query_token} queries alone", queries),
            Work("per image, both views (G)", both),
            Work(f"per pair (G), text of {tokens} tokens", both + text),
        ]
    return found


def _language_work(size: Size, image_size: int | None, text_tokens: int, tiles: int) -> list[Work]:
    assert size.language is not None
    shape = size.language.shape
    one = token_macs(shape) + shape.vocab_size * shape.hidden_size
    if size.chat is None or size.vision is None:
        text = decoder_macs(shape, text_tokens, head=True)
        return [Work("per token, weights alone", one), Work(f"per text of {text_tokens} tokens", text)]
    side = image_size or size.vision.image_size
    vision = size.vision.model_copy(update={"image_size": side})
    tile = vision_macs(vision) + connector_macs(size, side)
    found = [Work("per tile, connector", connector_macs(size, side))]
    if size.chat.connector == "two_mlp" and size.towers is not None:
        queries = query_macs(size.towers, vision.grid**2 + 1)
        found.append(Work("per tile, queries", queries))
        tile += queries
    seen = tiles * size.model_copy(update={"vision": vision}).image_tokens
    whole = seen + text_tokens
    written = decoder_macs(shape, 1, past=whole, head=True)
    pair = tiles * tile + decoder_macs(shape, whole, head=True)
    return [
        *found,
        Work("per token, weights alone", one),
        Work(f"per token written after {whole:,} others", written, trained=False),
        Work(f"per pair, {tiles} tile{'s' * (tiles > 1)} = {seen:,} tokens, and {text_tokens} of text", pair),
    ]
