"""The paper's hyper-parameter study at any scale: from a number of parameters to width and heads, and what it found.

arXiv:2312.14238, section 3.2 and table 11: depth, head dimension and MLP ratio vary, and width and heads follow from
the scale. How they follow is not said; the rule here gives all six published rows.
"""

from dataclasses import dataclass
from itertools import product

from models.config import VisionConfig


@dataclass(frozen=True)
class Variant:
    """One encoder of a study."""

    depth: int
    mlp_ratio: int
    head_dim: int
    heads: int

    @property
    def name(self) -> str:
        """How it is called: `d48_h128_r4`, by what is varied."""
        return f"d{self.depth}_h{self.head_dim}_r{self.mlp_ratio}"

    @property
    def width(self) -> int:
        """Width of the model."""
        return self.heads * self.head_dim

    @property
    def aimed(self) -> int:
        """Weights of all blocks' matrices, which the rule brings near its budget; embeddings come on top."""
        return self.depth * self.width**2 * (4 + 2 * self.mlp_ratio)

    @property
    def fields(self) -> dict[str, int]:
        """Return the fields of `VisionConfig` that it decides."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "intermediate_size": self.mlp_ratio * self.width,
        }

    def config(self, like: VisionConfig) -> VisionConfig:
        """Return its shape, with all that is not varied as another has it."""
        return like.model_copy(update=self.fields)


def derive(depth: int, mlp_ratio: int, head_dim: int, budget: float) -> Variant:
    """Return the variant of a budget.

    A block's matrices have width^2 (4 + 2 ratio) weights. The width at which all blocks have `budget` of them is
    rounded to the nearest number of whole heads (half to even), one at least. One head more or less moves the
    weights by 2 / heads of them: below 5 % at the paper's 6e9, a fifth and more at 3e5 with few heads (see `grid`).

    Args:
        depth: Blocks.
        mlp_ratio: Width of the MLP over width of the model.
        head_dim: Width of one head.
        budget: Wanted weights.
    """
    width = (budget / (depth * (4 + 2 * mlp_ratio))) ** 0.5
    return Variant(depth, mlp_ratio, head_dim, max(1, round(width / head_dim)))


def grid(
    budget: float, depths: tuple[int, ...], head_dims: tuple[int, ...], mlp_ratios: tuple[int, ...], tolerance: float
) -> tuple[list[Variant], list[str]]:
    """Return all variants whose weights come near a budget, and a sentence for each that does not.

    Args:
        budget: Wanted weights.
        depths: Depths to vary.
        head_dims: Widths of a head to vary.
        mlp_ratios: Ratios to vary.
        tolerance: Farthest that rounding may lead from the budget, as a share of it.
    """
    found, left_out = [], []
    for depth, ratio, head_dim in product(depths, mlp_ratios, head_dims):
        each = derive(depth, ratio, head_dim, budget)
        miss = each.aimed / budget - 1
        if abs(miss) <= tolerance:
            found.append(each)
        else:
            than = f"{abs(miss):.0%} {'larger' if miss > 0 else 'smaller'} than the budget"
            left_out.append(f"{each.name}: whole heads make it {than}, the limit is {tolerance:.0%}")
    return found, left_out


_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9}


def read_budget(text: str) -> float:
    """Return the number that a budget such as `0.3M` or `6B` means.

    Raises:
        ValueError: It is none, or not above 0.
    """
    number, unit = (text[:-1], text[-1].upper()) if text and text[-1].upper() in _UNITS else (text, "")
    try:
        found = float(number) * _UNITS.get(unit, 1.0)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise ValueError(f"budget {text!r} is no number of parameters; write 0.3M, 300M or 6B")
    return found


@dataclass(frozen=True)
class Published:
    """A row of the paper's table 11; throughput on one A100 at 224 pixels, bf16."""

    name: str
    variant: Variant
    parameters: float
    macs: float
    images_per_second: float
    """At batch 1, which leaves the GPU idle in part."""
    images_per_second_saturated: float
    """At batch 128."""
    accuracy: float
    """Zero-shot top-1 on ImageNet-1K after 10,000 steps, as a share."""


PUBLISHED = (
    Published("variant 1", Variant(32, 4, 64, 62), 6051e6, 1571e9, 35.5, 66.0, 0.658),
    Published("variant 2", Variant(48, 4, 64, 50), 5903e6, 1536e9, 28.1, 64.9, 0.661),
    Published("variant 3 (chosen)", Variant(48, 4, 128, 25), 5903e6, 1536e9, 28.0, 64.6, 0.662),
    Published("variant 4", Variant(48, 8, 64, 39), 5985e6, 1553e9, 28.3, 65.3, 0.659),
    Published("variant 5", Variant(64, 4, 64, 44), 6095e6, 1589e9, 21.6, 61.4, 0.662),
    Published("variant 6", Variant(80, 4, 64, 39), 5985e6, 1564e9, 16.9, 60.1, 0.662),
)
