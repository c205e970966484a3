"""The page of a run's curves: what is drawn, what is not, and that names cannot become markup."""

import math
import re
from typing import Any

from stages.training.curves import MOST_POINTS, page


def history(steps: int) -> list[dict[str, float]]:
    rows = [
        {"step": n, "lr": 1e-3, "grad_norm": 1 + 1 / n, "loss": 3 + 4 * math.exp(-n / 60), "itm": 1.0, "scale": 14.0}
        for n in range(1, steps + 1)
    ]
    for number in (40, 41):
        rows[number] = {"step": number + 1, "lr": 1e-3, "skipped": 1.0, "loss": 90.0}
    return rows


def meters() -> list[dict[str, Any]]:
    return [
        {"step": n, "samples_per_second": 50.0 + n % 7, "data_wait": 0.1, "loss": {"source/<coyo>": 3.0 + 1 / n}}
        for n in range(10, 200, 10)
    ]


def test_every_measure_has_its_drawing() -> None:
    drawn = page("checkpoints/x@v", history(200), meters())
    for title in ("loss and its terms", "learning rate", "gradient norm", "logit scale", "samples per second"):
        assert f"<figcaption>{title}" in drawn
    assert "use of the measured matmul peak" not in drawn
    assert "prefers-color-scheme:dark" in drawn and "<script" not in drawn


def test_skipped_steps_are_marked_and_their_absence_is_too() -> None:
    assert drawn_bad(page("x", history(200), [])) > 0
    assert drawn_bad(page("x", [{"step": n, "loss": 1.0} for n in range(1, 9)], [])) == 0


def drawn_bad(text: str) -> int:
    return text.count('class="bad"')


def test_a_long_run_is_drawn_with_few_points() -> None:
    drawn = page("x", [{"step": n, "loss": 1 / n} for n in range(1, 50_001)], [])
    curve = re.search(r'class="s0" d="([^"]+)"', drawn)
    assert curve is not None and curve[1].count("L") < MOST_POINTS


def test_names_are_escaped() -> None:
    drawn = page("<b>@v", history(50), meters())
    assert "<coyo>" not in drawn and "&lt;coyo&gt;" in drawn
    assert "<b>" not in drawn and "&lt;b&gt;@v" in drawn


def test_one_step_is_a_dot_in_the_middle_and_a_few_have_one_each() -> None:
    single = page("x", [{"step": 7, "loss": 2.0}], [])
    assert single.count('class="s0 dot"') == 1 and single.count(">7</text>") == 1
    (at,) = re.findall(r'class="s0 dot" d="M([\d.]+) ([\d.]+)h0"', single)
    assert (float(at[0]), float(at[1])) == ((54 + 450) / 2, (10 + 176) / 2)
    few = page("x", [{"step": n, "loss": 1.0 / n} for n in range(1, 6)], [])
    assert few.count('class="s0 dot"') == 5
    assert 'class="s0 dot"' not in page("x", [{"step": n, "loss": 1.0 / n} for n in range(1, 60)], [])
    assert "<svg" not in page("x", [], [])
