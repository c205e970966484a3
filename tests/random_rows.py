"""Rows with everything that a filter can meet: nulls, NaN, infinity, and numbers that lie on stops."""

from typing import Any

import numpy as np
import pyarrow as pa

from filters.catalogue import FILTERS

ALL = tuple(each() for each in FILTERS.values())
EXAMPLES = [
    example
    for rule in FILTERS.values()
    if rule.reads == ("caption",)
    for example in (*rule.examples.dropped, *rule.examples.kept)
    if example
]
WORDS = "a dog on the red, house of sea # street and old man | 12 der Hund läuft 老人 公園"


def rows(seed: int, size: int) -> dict[str, Any]:
    """Return columns of all signals, with captions and languages."""
    rng = np.random.default_rng(seed)
    numbers = {}
    for rule in ALL:
        for name in set(rule.reads) - {"caption", "language"}:
            on = rng.choice(rule.stops or (0.0,), size).astype(np.float32)
            values = np.where(rng.random(size) < 0.5, on, on * rng.uniform(0.5, 1.5, size)).astype(np.float32)
            # Most pass even the strictest stop, or hardly a row would pass all rules.
            values = np.where(rng.random(size) < 0.8, np.float32((rule.stops or (0,))[-1]), values)
            values[rng.random(size) < 0.05] = np.nan
            values[rng.random(size) < 0.02] = np.inf
            numbers[name] = values
    texts = [
        str(rng.choice(EXAMPLES)) if rng.random() < 0.5 else " ".join(rng.choice(WORDS.split(), rng.integers(1, 30)))
        for _ in range(size)
    ]
    captions = [None if rng.random() < 0.02 else text for text in texts]
    languages = [str(name) if name != "-" else None for name in rng.choice(["en", "de", "zh", "-", ""], size)]
    return {"caption": pa.array(captions, pa.string()), "language": pa.array(languages, pa.string()), **numbers}


def some(columns: dict[str, Any], which: Any) -> dict[str, Any]:
    """Return some rows of columns."""
    return {k: v.take(pa.array(which)) if isinstance(v, pa.Array) else v[which] for k, v in columns.items()}
