"""`transformers serve` for one folder, behind a socket file instead of a port; it ends when its parent does.

This file is run as a program, by `stages.serving.engines`, and imports nothing of ours. A socket file in a
private folder can be reached by nobody else on the machine, which a port without a password cannot promise.
"""

import argparse
import functools
import os
import sys
import threading


def end_with_parent() -> None:
    """End this process as soon as whoever holds the other end of standard input is gone."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


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
    Serve(force_model=given.model, device=given.device)


if __name__ == "__main__":
    main()
