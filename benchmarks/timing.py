"""Fair comparisons on a machine that others use too: interleaved, and in CPU time of this process."""

import json
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, dropped: int = 2
) -> dict[str, np.ndarray]:
    """Return CPU-seconds of every candidate in every round, shape (rounds,).

    Candidates take turns (A B C, A B C, ...), so that a slow minute of the machine hits all of them.
    Wall time would measure the neighbours; the first rounds, which allocate, are dropped.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(dropped + rounds):
        for name, step in candidates.items():
            start = time.process_time()
            step()
            if number >= dropped:
                seconds[name].append(time.process_time() - start)
    return {name: np.array(each) for name, each in seconds.items()}


def cpu_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the median CPU-seconds of some rounds; the first, which allocates, is dropped."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return float(np.median(seconds[1:]))


def ratio_of_medians(
    slow: np.ndarray, fast: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return median(slow) / median(fast) with its 95 % bootstrap interval, rounds drawn in pairs."""
    picked = np.random.default_rng(seed).integers(len(slow), size=(draws, len(slow)))
    ratios = np.median(slow[picked], axis=1) / np.median(fast[picked], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.median(slow) / np.median(fast)), float(low), float(high)


def surroundings(packages: tuple[str, ...]) -> dict[str, Any]:
    """Return what a number is worth nothing without: versions, commit, processor."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    cpu = Path("/proc/cpuinfo").read_text().split("model name") if Path("/proc/cpuinfo").exists() else []
    return {
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "commit": git("rev-parse", "HEAD"),
        "changed_since_commit": bool(git("status", "--porcelain", "--", "../models", ".")),
        "processor": cpu[1].split("\n")[0].strip(": \t") if len(cpu) > 1 else platform.processor(),
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def publish(result: Mapping[str, Any], text: str, path: Path) -> None:
    """Write a result as JSON, and print it for people."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(text)
    print(f"\nwritten to {path}")
