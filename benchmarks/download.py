"""Our download stage beside plain img2dataset: pictures per CPU-second and per second, memory, and what is lost.

Both run as one process with the same threads, sizes and time-outs on the same loopback servers, in turns. Counted is
the process that fetches and stores, from the first row to the last: what importing costs is left out, and the
servers' work counts for nobody.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.download_clients import DEADLINE_SECONDS, THREADS, TIMEOUT_SECONDS, Run, measured
from benchmarks.download_web import HOSTS, MIXES, make_certificates, serving, urls
from benchmarks.timing import surroundings

RESULTS = Path(__file__).parent / "results" / "download.json"
CLIENTS = ("img2dataset", "ours")
COUNT, ROUNDS = 600, 3
GOALS = {"http": 1.5, "https": 3.0}
"""How many times the CPU time of ours plain img2dataset should take per picture, on the even mix."""


class Case(NamedTuple):
    """One web and one size to store at."""

    scheme: str
    latency_ms: int
    mix: str
    image_size: int

    @property
    def name(self) -> str:
        """How the table calls it."""
        return f"{self.scheme} {self.latency_ms} ms, {self.mix}, {self.image_size} px"


# 224 is what the contrastive training sees. The small mix at 256 is the worst case for scaled decoding: a
# picture of 480 rows cannot be halved.
CASES = [Case(scheme, latency, "even", 224) for latency in (0, 50, 300) for scheme in ("http", "https")]
CASES += [Case(scheme, 0, "small", 256) for scheme in ("http", "https")]


def one_round(case: Case, count: int, number: int, folder: Path, trusted: Path, server: Path) -> dict[str, Run]:
    """Run both clients on one web, one after the other."""
    found: dict[str, Run] = {}
    with serving(case.latency_ms, server if case.scheme == "https" else None, case.mix) as base:
        for client in CLIENTS:
            # Addresses are new in each run, because busy ones answer when they are asked again.
            run = f"{client}-{number}"
            found[client] = measured(
                client, urls(base, run, count)[0], folder / case.name / run, trusted, case.image_size
            )
    return found


def summary(rounds: list[dict[str, Run]], reachable: int, goal: float | None) -> dict[str, Any]:
    """Return one case's numbers: medians over the rounds, and the ratio of each round's costs."""
    result: dict[str, Any] = {}
    for client in CLIENTS:
        runs = [each[client] for each in rounds]
        cpu = float(np.median([each.cpu_seconds / each.stored for each in runs]))
        result[client] = {
            "cpu_ms_per_picture": 1000 * cpu,
            "pictures_per_cpu_second": 1 / cpu,
            "pictures_per_second": float(np.median([each.stored / each.wall_seconds for each in runs])),
            "peak_bytes": max(each.peak_bytes for each in runs),
            "kept_of_reachable": sum(each.stored for each in runs) / (reachable * len(runs)),
        }
    costs = [{client: run.cpu_seconds / run.stored for client, run in each.items()} for each in rounds]
    ratios = sorted(each["img2dataset"] / each["ours"] for each in costs)
    return {**result, "ratio": {"median": float(np.median(ratios)), "range": [ratios[0], ratios[-1]], "goal": goal}}


def measure(cases: list[Case] = CASES, count: int = COUNT, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield the table after every case of every round, so that hours of measuring survive an interruption."""
    found: dict[Case, list[dict[str, Run]]] = {}
    around = surroundings(("img2dataset", "opencv-python-headless", "pillow"))
    with tempfile.TemporaryDirectory(prefix="internvl-benchmark-") as name:
        folder = Path(name)
        trusted, server = make_certificates(folder)
        for number in range(rounds):
            for case in cases:
                found.setdefault(case, []).append(one_round(case, count, number, folder, trusted, server))
                yield {**around, **report(found, count)}


def report(found: Mapping[Case, list[dict[str, Run]]], count: int) -> dict[str, Any]:
    """Return what was measured so far as JSON."""
    reachable = urls("http://127.0.0.1:0", "", count)[1]
    return {
        "addresses": count,
        "rounds": max(len(each) for each in found.values()),
        "threads": THREADS,
        "hosts": HOSTS,
        "timeout_seconds": TIMEOUT_SECONDS,
        "deadline_seconds": DEADLINE_SECONDS,
        "mixes": {mix: [list(each) for each in sizes] for mix, sizes in MIXES.items()},
        "cases": {
            case.name: summary(each, reachable, GOALS[case.scheme] if case.mix == "even" else None)
            for case, each in found.items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    lines = [f"{'':30} {'pictures/CPU s':>17} {'pictures/s':>13} {'peak MB':>11} {'kept %':>13} {'ratio':>20}"]
    lines.append(f"{'':30} {'theirs':>8} {'ours':>8} {'theirs':>6} {'ours':>6} {'theirs':>6} {'ours':>4}")
    for name, case in result["cases"].items():
        theirs, ours, ratio = case["img2dataset"], case["ours"], case["ratio"]
        goal = f"goal {ratio['goal']}" if ratio["goal"] else ""
        lines.append(
            f"{name:30} {theirs['pictures_per_cpu_second']:8.0f} {ours['pictures_per_cpu_second']:8.0f} "
            f"{theirs['pictures_per_second']:6.0f} {ours['pictures_per_second']:6.0f} "
            f"{theirs['peak_bytes'] / 1e6:6.0f} {ours['peak_bytes'] / 1e6:4.0f} "
            f"{100 * theirs['kept_of_reachable']:6.1f} {100 * ours['kept_of_reachable']:6.1f} "
            f"{ratio['median']:5.2f} ({ratio['range'][0]:.2f} to {ratio['range'][1]:.2f}) {goal}"
        )
    return "\n".join(lines)


def main(path: Path = RESULTS, count: int = COUNT, rounds: int = ROUNDS) -> None:
    """Measure, write the JSON, print the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}
    for result in measure(count=count, rounds=rounds):
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--count", type=int, default=COUNT)
    main(**vars(parser.parse_args()))
