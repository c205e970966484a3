"""`transformers serve` for one folder, behind a socket file instead of a port; it ends when its parent does.

This file is run as a program, by `stages.serving.engines`, and imports nothing of ours. A socket file in a
private folder can be reached by nobody else on the machine, which a port without a password cannot promise.
"""

import argparse
import functools
import os
import sys
import threading
from typing import Any


def end_with_parent() -> None:
    """End this process as soon as whoever holds the other end of standard input is gone."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def share_tiles() -> None:
    """Let several pictures of a conversation share the tiles of one, as in training; else each would have all."""
    from transformers import InternVLProcessor

    whole = InternVLProcessor.__call__

    @functools.wraps(whole)
    def shared(self: Any, images: Any = None, *given: Any, **more: Any) -> Any:
        if (count := _count(images)) > 1:
            own = self.image_processor
            each = max(own.min_patches, 1, own.max_patches // count)
            more["images_kwargs"] = {**more.get("images_kwargs", {}), "max_patches": each}
        return whole(self, images, *given, **more)

    InternVLProcessor.__call__ = shared  # type: ignore[method-assign]


def _count(images: Any) -> int:
    """Return how many pictures there are, in lists or alone."""
    if images is None:
        return 0
    return sum(map(_count, images)) if isinstance(images, list | tuple) else 1


def main() -> None:
    """Load the model of a folder and answer until the parent ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="The folder, as requests call it.")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    end_with_parent()

    import uvicorn
    from transformers.cli.serve import Serve

    # Serve knows hosts and ports alone; uvicorn prefers a socket file where it is given one.
    uvicorn.Config = functools.partial(uvicorn.Config, uds=given.socket)  # type: ignore[assignment, misc]
    share_tiles()
    Serve(force_model=given.model, device=given.device)


if __name__ == "__main__":
    main()
