"""Publishes parts on a disk that fills up, is then read-only, then large enough; runs in a mount namespace."""

import json
import subprocess
import sys
from pathlib import Path

from infra.storage import StorageError, Store
from stages.manifest import Ledger, Part, verify
from stages.ref import Ref
from stages.workspace import Output

PART_BYTES = 60_000


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def publish(output: Output, number: int) -> Part:
    body = number.to_bytes(4, "big") * (PART_BYTES // 4)
    return output.part(f"{number}", f"{number:064x}", Ledger(listed=1, kept=1), {"rows": (f"{number}.bin", body)})


def main(folder: Path) -> None:
    mount(folder, "size=200k")
    store = Store(str(folder))
    output = Output(store=store, ref=Ref(name="pool/x", version="v1"), stage="toy", identity={})
    told = {}
    items = [(f"{number}", f"{number:064x}") for number in range(6)]
    try:
        for number in range(6):
            publish(output, number)
    except StorageError as error:
        told["full"] = str(error)
    told["finished"] = len(output.standing(items))
    told["half_files"] = [each.key for each in store.entries() if 0 < each.bytes < PART_BYTES and "parts" in each.key]
    mount(folder, "remount,ro")
    try:
        publish(output, 5)
    except StorageError as error:
        told["read_only"] = str(error)
    mount(folder, "remount,rw,size=2m")
    told["still_finished"] = len(output.standing(items))
    manifest = output.commit([publish(output, number) for number in range(6)])
    told["damage"] = verify(store, manifest)
    told["kept"] = manifest.ledger.kept
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
