"""Runs the toy training in processes that may be killed: everything is imported once, each run is a fork of that.

One request per line on standard input, one answer per line on standard output. Started as a
process of its own, because the tests' process has threads and must not be forked.
"""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import followed_runs
import lost_runs
import placed_runs
import published_runs
import real_stages
import toy_run
import training_jobs
from installation import free_port

from infra.storage import Store
from stages.run import exit_code

IMPORTED = (followed_runs, lost_runs, placed_runs, published_runs, real_stages, toy_run, training_jobs)
"""Modules whose functions may be asked for: a fork has them already."""


def _run(request: dict[str, Any], rank: int) -> int:
    log = os.open(request["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if request["processes"] > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(request["processes"])}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(request["port"])}
    os.environ.update(request["environment"])
    store, given = request["store"], request["given"]
    if request["job"]:
        return int(resolve_name(request["job"])(Path(store), **given) or 0)
    return exit_code(partial(toy_run.make, Store(store), Path(request["scratch"]), request["placement"], **given))


def _forked(request: dict[str, Any], rank: int) -> int:
    if child := os.fork():
        return child
    try:
        os._exit(_run(request, rank))
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        children = [_forked(request, rank) for rank in range(request["processes"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


class Forks:
    """The other end: starts the process, asks for runs, tells how they ended."""

    def __init__(self, folder: Path) -> None:
        self.log, self._folder = folder / "log.txt", folder
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"

    def run(
        self,
        store: str | Path,
        processes: int = 1,
        placement: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        job: str = "",
        **given: Any,
    ) -> list[int]:
        """Run on so many processes; return exit codes, as `stages.run` gives them, negative for a signal.

        Args:
            store: Root of the store.
            processes: How many train together.
            placement: Fields of `Placement`.
            environment: Variables of the processes.
            job: A function to call in place of the training, as `module:name` of a module that is imported here.
            given: Fields of `toy_run.Parameters`, or what the job is handed.
        """
        assert self._process.stdin and self._process.stdout
        request = {
            "store": str(store), "processes": processes, "placement": placement, "job": job, "given": given,
            "environment": {"TMPDIR": str(self._folder), **(environment or {})},
            "log": str(self.log), "scratch": str(self._folder), "port": free_port(),
        }  # fmt: skip
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        codes: list[int] = json.loads(self._process.stdout.readline())
        return codes

    def said(self) -> str:
        """Return the end of what the runs printed."""
        return self.log.read_text()[-4000:]

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    main()
