"""What training costs: both steps, the contrastive loss's memory, and the loader, in one run.

Each part is measured by a module of its own, interleaved with what it is held against, in CPU seconds
on one thread: `contrastive_step`, `generative_step`, `contrastive_loss`, `loader`.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import contrastive_loss, contrastive_step, generative_step, loader
from benchmarks.timing import publish, surroundings

RESULTS = Path(__file__).parent / "results" / "training.json"
PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "contrastive_step": contrastive_step.measure,
    "generative_step": generative_step.measure,
    "contrastive_loss": contrastive_loss.measure,
    "loader": loader.measure,
}


def measure(parts: Mapping[str, Callable[[], dict[str, Any]]] = PARTS) -> dict[str, Any]:
    """Return what every part measured, by its name; a part that could not be measured says why as `skipped`."""
    versions = surroundings(("torch", "open_clip_torch", "webdataset"))
    return {**versions, **{name: part() for name, part in parts.items()}}


def table(result: Mapping[str, Any]) -> str:
    """Return the result for people: ratio, 95 % interval where there is one, goal."""
    return "\n".join([f"{'ratio':66} {'':5} {'95 % interval':>15} {'goal':>7}", *_lines(result)])


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    for step in ("contrastive_step", "generative_step"):
        for pair, told in result[step]["ratios"].items():
            yield _line(pair, told["ratio"], (told["low"], told["high"]), told["goal"])
    loss = result["contrastive_loss"]
    for other, share in loss["memory_share_of_ours"].items():
        yield _line(f"memory of the loss, ours / {other}", share, None, loss["memory_goal"], "<=")
    read = result["loader"]
    if "skipped" in read:
        yield f"loader: skipped: {read['skipped']}"
        return
    for pair, told in read["ratios"].items():
        yield _line(f"loader, {pair}", told["ratio"], told["interval_95"], read["goals"].get(pair))
    for workers, share in read["waiting_share"].items():
        yield _line(f"share of a step that waits, {workers} data workers", share, None, None)


def _line(name: str, ratio: float, interval: Any, goal: float | None, sign: str = ">=") -> str:
    between = f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
    return f"{name:66} {ratio:5.2f} {between:>15} {f'{sign}{goal:.2f}' if goal is not None else '':>7}"


def main(path: Path = RESULTS) -> None:
    """Measure, write the JSON, print the table."""
    result = measure()
    publish(result, table(result), path)


if __name__ == "__main__":
    main()
