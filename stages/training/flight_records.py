"""Where flight records lie, and how they are read."""

import json
from typing import Any

from infra.storage import Store
from stages.ref import Ref


def flight_key(ref: Ref) -> str:
    """Return where a checkpoint's flight records lie, one JSON object a line, the oldest first."""
    return ref.key("training/flight.jsonl")


def flight_records(store: Store, ref: Ref) -> list[dict[str, Any]]:
    """Return a checkpoint's flight records; none where nothing happened."""
    key = flight_key(ref)
    return [json.loads(line) for line in store.read(key).splitlines()] if store.exists(key) else []
