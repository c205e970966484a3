"""Rival processes make the same parts, each with another result, and are killed at random: run with a store's root.

Each generation of eight lives up to 50 ms. When all parts stand they are committed, and the next
version begins, until there were two hundred kills.
"""

import json
import os
import random
import signal
import sys
import time
from typing import Any

from infra.storage import Store
from stages.manifest import Ledger, Part, load, verify
from stages.ref import Ref
from stages.workspace import Output

PARTS, ROWS, RIVALS, KILLS = 60, 20, 8, 200
ITEMS = [(f"{number:06d}", f"{number:064x}") for number in range(PARTS)]


def make(output: Output, number: int, lucky: random.Random) -> Part:
    """Make a part as a download would: what was fetched differs from attempt to attempt."""
    kept = lucky.randint(0, ROWS)
    body = f"part {number} made by {os.getpid()}, {kept} kept\n".encode() * 200
    ledger = Ledger(listed=ROWS, kept=kept, failed=ROWS - kept)
    files = {"rows": (f"{number:06d}.bin", body), "facts": (f"{number:06d}.txt", str(kept).encode())}
    return output.part(f"{number:06d}", f"{number:064x}", ledger, files, {"kept": kept})


def work(output: Output, seed: int) -> None:
    lucky = random.Random(seed)
    numbers = list(range(PARTS))
    lucky.shuffle(numbers)
    for number in numbers:
        output.done(f"{number:06d}", f"{number:064x}") or make(output, number, lucky)


def generation(output: Output, first_seed: int, chance: random.Random) -> int:
    """Let rivals work for a moment; return how many of them were killed at it."""
    children = []
    for seed in range(first_seed, first_seed + RIVALS):
        if not (child := os.fork()):
            work(output, seed)
            os._exit(0)
        children.append(child)
    for child in children:
        time.sleep(chance.uniform(0, 0.05) / RIVALS)
        os.kill(child, signal.SIGKILL)
    return sum(os.waitpid(child, 0)[1] == signal.SIGKILL for child in children)


def finish(output: Output) -> dict[str, Any]:
    """Commit what stands; tell what can be read back."""
    store = output.store
    parts = output.standing(ITEMS)
    manifest = output.commit(parts)
    said = [store.read(manifest.key(part.files["facts"])) for part in parts]
    return {
        "listed": manifest.ledger.listed,
        "agree": said == [str(part.ledger.kept).encode() for part in parts],
        "damage": verify(store, load(store, manifest.ref)),
    }


def main(root: str) -> None:
    chance, killed, seed, told = random.Random(0), 0, 0, []
    while killed < KILLS:
        version = f"v{len(told)}"
        output = Output(Store(root), Ref(name="pool/x", version=version), stage="toy", identity={"inputs": {}})
        while len(output.standing(ITEMS)) < PARTS:
            killed += generation(output, seed, chance)
            seed += RIVALS
        told.append(finish(output))
    print(json.dumps({"killed": killed, "versions": told}))


if __name__ == "__main__":
    main(sys.argv[1])
