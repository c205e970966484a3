"""The paper's hyper-parameter study: its rows and grid by the rule, and other budgets."""

import pytest

from models.composition import Size
from models.config import INTERN_VIT_6B_224
from models.cost import vision_macs
from models.counting import count, shapes
from models.sizes import VARIANTS
from models.variants import PUBLISHED, Published, derive, grid, read_budget

# depth, ratio, head dimension -> heads, millions of parameters, G multiply-accumulates: the whole grid at 6e9.
GRID = {
    (32, 4, 64): (62, 6051, 1571), (64, 4, 64): (44, 6095, 1589),
    (32, 4, 128): (31, 6051, 1571), (64, 4, 128): (22, 6095, 1589),
    (32, 8, 64): (48, 6044, 1566), (64, 8, 64): (34, 6065, 1576),
    (32, 8, 128): (24, 6044, 1566), (64, 8, 128): (17, 6065, 1576),
    (48, 4, 64): (50, 5903, 1537), (80, 4, 64): (39, 5985, 1564),
    (48, 4, 128): (25, 5903, 1537), (80, 4, 128): (20, 6296, 1644),
    (48, 8, 64): (39, 5985, 1553), (80, 8, 64): (30, 5902, 1536),
    (48, 8, 128): (20, 6296, 1634), (80, 8, 128): (15, 5902, 1536),
}  # fmt: skip


def counted(depth: int, ratio: int, head_dim: int, budget: float = 6e9) -> tuple[int, int, int]:
    variant = derive(depth, ratio, head_dim, budget)
    config = variant.config(INTERN_VIT_6B_224)
    return variant.heads, count(shapes(Size(name="x", kind="vision", vision=config))), vision_macs(config)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.name)
def test_the_rule_gives_each_published_row(published: Published) -> None:
    row = published.variant
    heads, parameters, macs = counted(row.depth, row.mlp_ratio, row.head_dim)
    assert heads == row.heads
    assert abs(parameters - published.parameters) <= 1e6 and abs(macs - published.macs) <= 1e9
    size = next(each for each in VARIANTS if each.name == published.name.partition(" (")[0].replace(" ", "-"))
    assert size.vision == row.config(INTERN_VIT_6B_224)


@pytest.mark.parametrize("varied", GRID, ids=lambda varied: "-".join(map(str, varied)))
def test_the_rule_gives_the_whole_grid(varied: tuple[int, int, int]) -> None:
    heads, millions, macs = GRID[varied]
    found = counted(*varied)
    assert found[0] == heads and round(found[1] / 1e6) == millions and abs(found[2] / 1e9 - macs) <= 1


def test_another_budget_gives_another_grid() -> None:
    assert counted(48, 4, 128) != counted(48, 4, 128, budget=5e9)


@pytest.mark.parametrize("budget", [6e9, 3e8, 3e7, 1e6, 3e5])
def test_every_budget_has_variants_near_it(budget: float) -> None:
    depths, dims = ((32, 48), (64, 128)) if budget > 1e8 else ((2, 4, 6), (8, 16))
    found, left_out = grid(budget, depths, dims, (4, 8), tolerance=0.15)
    assert len(found) >= 6 and len(found) + len(left_out) == len(depths) * 4
    assert all(abs(each.aimed / budget - 1) <= 0.15 for each in found)


def test_what_whole_heads_lead_astray_is_left_out_with_its_miss() -> None:
    found, left_out = grid(3e5, (6,), (8, 32), (8,), tolerance=0.15)
    assert [each.name for each in found] == ["d6_h8_r8"]
    assert left_out == ["d6_h32_r8: whole heads make it 64% larger than the budget, the limit is 15%"]


def test_a_model_has_one_head_at_least() -> None:
    assert derive(80, 8, 128, 1e4).heads == 1


def test_budgets_are_read_as_people_write_them() -> None:
    found = [read_budget(text) for text in ("0.3M", "6B", "300m", "50K", "1e6")]
    assert found == [3e5, 6e9, 3e8, 5e4, 1e6]
    for text in ("", "M", "-1M", "0", "many", "nan", "inf"):
        with pytest.raises(ValueError, match=r"write 0\.3M, 300M or 6B"):
            read_budget(text)
