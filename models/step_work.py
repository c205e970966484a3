"""The work of a training step: products with weights, products among tokens, and how often learning does each.

A forward pass does each product once. The backward pass does it again for each of its two factors that a gradient
is asked of: of two activations always where gradients pass at all, of a weight only where it learns. So what learns
costs three forward passes; what is frozen above something that learns, two and its attention three; the rest, one.
What is computed again to spare memory is not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.cost import decoder_macs, pooling_macs, query_macs, vision_macs

FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class StepCost:
    """Of one batch; added up over micro batches."""

    tokens: int = 0
    """Text tokens that are no padding, and vision tokens that are seen."""
    places: int = 0
    """The same with padding."""
    useful: float = 0.0
    """FLOPs for what is no padding; 0 where the objective's shape is not known."""
    computed: float = 0.0
    """The same with padding."""

    def __add__(self, other: "StepCost") -> "StepCost":
        """Return both together."""
        return StepCost(
            self.tokens + other.tokens,
            self.places + other.places,
            self.useful + other.useful,
            self.computed + other.computed,
        )

    def times(self, steps: int) -> "StepCost":
        """Return that of so many steps like this one."""
        return StepCost(self.tokens * steps, self.places * steps, self.useful * steps, self.computed * steps)


@dataclass(frozen=True)
class Products:
    """One forward pass, in multiply-accumulates."""

    weights: float = 0.0
    """Of activations with weights."""
    tokens: float = 0.0
    """Of activations with each other: in attention."""

    def __add__(self, other: "Products") -> "Products":
        """Return both together."""
        return Products(self.weights + other.weights, self.tokens + other.tokens)

    def times(self, count: float) -> "Products":
        """Return so many of them."""
        return Products(self.weights * count, self.tokens * count)


@dataclass(frozen=True)
class Learning:
    """What the backward pass does in a part of a model."""

    share: float
    """Of its weights, how many learn."""
    passed: bool
    """Whether gradients pass through it: it learns, or what feeds it does."""

    def flops(self, products: Products) -> float:
        """Return what training costs whose forward pass is these products."""
        weights = products.weights * (1 + self.passed + self.share)
        return FLOPS_PER_MAC * (weights + products.tokens * (1 + 2 * self.passed))


LEARNS, PASSED, FROZEN = Learning(1.0, True), Learning(0.0, True), Learning(0.0, False)


def learning(parameters: Iterable[nn.Parameter], below: bool = False) -> Learning:
    """Return what the backward pass does with these parameters.

    Args:
        parameters: Of a part; its matrices count.
        below: Whether something that feeds it learns.
    """
    sizes = [(each.numel(), each.requires_grad) for each in parameters if each.ndim > 1]
    trained = sum(size for size, learns in sizes if learns)
    return Learning(trained / max(1, sum(size for size, _ in sizes)), below or trained > 0)


def vision_products(config: VisionConfig, patches: int) -> Products:
    """Return one picture of so many seen patches in an encoder."""
    among = config.num_hidden_layers * 2 * (patches + 1) ** 2 * config.hidden_size
    return Products(vision_macs(config, kept=patches) - among, among)


def decoder_products(config: TextConfig, tokens: int, past: int = 0) -> Products:
    """Return one text in a decoder's blocks, after so many tokens that are cached."""
    among = config.num_hidden_layers * 2 * tokens * (past + tokens) * config.hidden_size
    return Products(decoder_macs(config, tokens, past=past) - among, among)


def head_products(config: TextConfig, tokens: int) -> Products:
    """Return the logits of so many tokens."""
    return Products(tokens * config.vocab_size * config.hidden_size)


def pooling_products(width: int, tokens: int, embed_dim: int) -> Products:
    """Return the pooling of tokens into one vector."""
    among = 2 * tokens * width
    return Products(pooling_macs(width, tokens, embed_dim) - among, among)


def looking_products(config: InternVLConfig, seen: int, *, shown: bool = False) -> Products:
    """Return what QLLaMA's queries add to its blocks by looking at a picture of `seen` tokens.

    Args:
        config: Shape of the towers.
        seen: Vision tokens, the class token among them.
        shown: The picture was projected already, for another look at it.
    """
    width, layers = config.text.hidden_size, -(-config.text.num_hidden_layers // config.cross_attention_frequency)
    among = layers * 2 * config.num_query_token * seen * width
    whole = query_macs(config, seen) - decoder_macs(config.text, config.num_query_token)
    projected = layers * 2 * seen * config.vision.hidden_size * width
    return Products(whole - among - (projected if shown else 0), among)
