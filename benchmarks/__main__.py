"""Run every benchmark: `make bench`, or `python -m benchmarks models` for one."""

import sys
from collections.abc import Callable

from benchmarks import chat, decoders, download, filters, loader, models, plan, planted, training

BENCHMARKS: dict[str, Callable[[], None]] = {
    "chat": chat.main,
    "decoders": decoders.main,
    "download": download.main,
    "filters": filters.main,
    "loader": loader.main,
    "models": models.main,
    "plan": plan.main,
    "planted": planted.main,
    "training": training.main,
}


def main(names: list[str]) -> int:
    """Run those named, all where none is."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
