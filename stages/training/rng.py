"""The states of a process's random generators as JSON, and back: no pickle."""

import base64
import random
from typing import Any

import numpy as np
import torch


def rng_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's own generators, of the CPU and of this process's GPU."""
    kind, words, position, has_gauss, gauss = np.random.get_state()
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(words).tolist(), position, has_gauss, gauss],
        "torch": _text(torch.get_rng_state()),
    }
    if torch.cuda.is_available():
        found["cuda"] = _text(torch.cuda.get_rng_state())
    return found


def set_rng_states(states: dict[str, Any]) -> None:
    """Put the generators of this process back where they were."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, words, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, np.array(words, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_tensor(states["torch"]))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(_tensor(states["cuda"]))


def _text(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
