"""`internvl serve` as a process, with a stand-in for the engine: FOLDER PORT [WORD OF THE STAND-IN ...]."""

import sys
from pathlib import Path

from gateways import LIMITS, TOKEN, stub

from stages.manifest import ManifestError
from stages.serving.served_model import ServedModel
from stages.serving.server import Address, Server, ends_when_told


def main() -> None:
    ends_when_told()
    folder, port, *words = sys.argv[1:]
    server = Server(ServedModel("small", Path(folder)), LIMITS, Address("127.0.0.1", int(port), TOKEN), page=False)
    server._engine = stub(*words)
    try:
        server.run(30, lambda line: print(line, flush=True))
    except ManifestError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
