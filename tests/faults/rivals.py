"""Rival processes make the same parts, each with another result, and are killed at random: run with a store's root.

Each generation of eight lives a random time of up to 50 ms; the kills are counted. The last one lives.
"""

import json
import os
import random
import signal
import sys
import time

from infra.storage import Store
from stages.manifest import Ledger, Part, load, verify
from stages.ref import Ref
from stages.workspace import Output

PARTS, ROWS, RIVALS, KILLS = 60, 20, 8, 200


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


def main(root: str) -> None:
    output = Output(store=Store(root), ref=Ref(name="pool/x", version="v1"), stage="toy", identity={"inputs": {}})
    chance, killed, seed = random.Random(0), 0, 0
    while killed < KILLS:
        children = []
        for _ in range(RIVALS):
            seed += 1
            if not (child := os.fork()):
                work(output, seed)
                os._exit(0)
            children.append(child)
        for child in children:
            time.sleep(chance.uniform(0, 0.05) / RIVALS)
            os.kill(child, signal.SIGKILL)
        killed += sum(os.waitpid(child, 0)[1] == signal.SIGKILL for child in children)
    work(output, seed + 1)
    parts = output.standing((f"{number:06d}", f"{number:064x}") for number in range(PARTS))
    manifest = output.commit(parts)
    told = {
        "killed": killed,
        "listed": manifest.ledger.listed,
        "agree": all(p.facts["kept"] == p.ledger.kept for p in parts)
        and all(output.store.read(manifest.key(p.files["facts"])) == str(p.ledger.kept).encode() for p in parts),
        "damage": verify(output.store, load(output.store, manifest.ref)),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
