"""What the chat stage costs: how conversations are shared out, and a packed step beside padded ones, in one run.

Each part is measured by a module of its own: `chat_packing` counts, `chat_step` is timed, interleaved and in CPU
seconds on one thread.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import chat_packing, chat_step
from benchmarks.timing import publish, surroundings

RESULTS = Path(__file__).parent / "results" / "chat.json"
PARTS: dict[str, Callable[[], dict[str, Any]]] = {"packing": chat_packing.measure, "step": chat_step.measure}


def measure(parts: Mapping[str, Callable[[], dict[str, Any]]] = PARTS) -> dict[str, Any]:
    """Return what every part measured, by its name."""
    return {**surroundings(("torch", "transformers")), **{name: part() for name, part in parts.items()}}


def table(result: Mapping[str, Any]) -> str:
    """Return the result for people."""
    return "\n".join([*_packing(result["packing"]), "", *_step(result["step"])])


def _packing(packing: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield f"{'8 processes, recorded mix':46} {'slowest/mean':>12} {'worst':>7} {'places used':>11} {'filled':>7}"
    for way, told in packing.items():
        numbers = [
            told[name] for name in ("straggler_mean", "straggler_worst", "computed_places_used", "packs_filled")
        ]
        yield f"{way:46} {numbers[0]:12.3f} {numbers[1]:7.3f} {numbers[2]:11.1%} {numbers[3]:7.1%}"


def _step(step: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'a step':26} {'CPU s':>7} {'useful tokens/core-s':>21}"
    for name, seconds in step["cpu_seconds"].items():
        yield f"{name:26} {seconds:7.3f} {step['tokens_per_core_second'][name]:21,}"
    yield ""
    yield f"{'ratio':44} {'':5} {'95 % interval':>15} {'goal':>6}"
    for pair, told in step["ratios"].items():
        goal = "" if told["goal"] is None else f">={told['goal']:.2f}"
        between = f"{told['low']:.2f} to {told['high']:.2f}"
        yield f"{pair:44} {told['ratio']:5.2f} {between:>15} {goal:>6}"


def main(path: Path = RESULTS) -> None:
    """Measure, write the JSON, print the table."""
    result = measure()
    publish(result, table(result), path)


if __name__ == "__main__":
    main()
