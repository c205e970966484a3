"""Runs stages in processes that may be killed: everything is imported once, each run is a fork of that.

One request per line on standard input, one answer per line on standard output. Started as a
process of its own, because the tests' process has threads and must not be forked.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from infra.cluster import InlineCluster
from infra.storage import Store
from stages.lean import lean_package
from stages.materialize import StageSpec, materialize, module_of


class PoolCluster(InlineCluster):
    """Work on several processes of this machine, in whatever order it is done."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, work: Callable[[Any], Any], items: Iterable[Any], **_: Any) -> Iterator[Any]:
        with ProcessPoolExecutor(self._workers, mp_context=multiprocessing.get_context("fork")) as pool:
            for done in as_completed([pool.submit(work, item) for item in items]):
                yield done.result()


def _run(request: dict[str, Any]) -> None:
    log = os.open(request["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(request["environment"])
    cluster = PoolCluster(request["workers"]) if request["workers"] else InlineCluster()
    for spec in request["specs"]:
        materialize(StageSpec.model_validate(spec), Store(request["store"]), cluster, progress=False)


def _forked(request: dict[str, Any]) -> int:
    if child := os.fork():
        return child
    try:
        _run(request)
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def main() -> None:
    lean_package("img2dataset")
    # What the stages import, once for all forks.
    for name in ("list_urls", "download"):
        module_of(name)
    import img2dataset.downloader
    import img2dataset.resizer  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        children = [_forked(request) for request in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


class Forks:
    """The other end: starts the process, asks for runs, tells how they ended."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"

    def run(
        self, store: str, specs: list[dict[str, Any]], *, workers: int = 0, times: int = 1, **environment: str
    ) -> list[int]:
        """Run the stages in order, in so many processes at once; return exit codes, negative for a signal."""
        assert self._process.stdin and self._process.stdout
        request = {
            "store": store, "specs": specs, "workers": workers, "environment": environment, "log": str(self.log),
        }  # fmt: skip
        self._process.stdin.write(json.dumps([request] * times) + "\n")
        self._process.stdin.flush()
        codes: list[int] = json.loads(self._process.stdout.readline())
        return codes

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # also workers that outlived a killed parent
        self._process.wait()


if __name__ == "__main__":
    main()
