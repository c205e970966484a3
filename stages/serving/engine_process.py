"""The engine's process: started in a folder of its own, watched, started again when it dies, ended with us."""

import asyncio
import os
import subprocess
import time
from collections import deque
from enum import StrEnum
from pathlib import Path

import httpx

from infra.processes import Service, end, session_of, start_time, tail
from stages.manifest import ManifestError
from stages.serving.engines import MODEL, SOCKET, Engine

MOST_DEATHS = 3
DEATHS_WITHIN_SECONDS = 600.0
LOG = "engine.log"


class EngineState(StrEnum):
    """What an engine is doing."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


class EngineProcess:
    """One engine, and the folder in which its socket and its log are."""

    def __init__(self, engine: Engine, weights: Path, folder: Path) -> None:
        """Prepare the folder; nothing runs yet.

        Args:
            engine: What is started.
            weights: The folder with the exported model.
            folder: An empty one that nobody else may enter, with a short path: a socket's has 107 bytes at most.
        """
        self.engine, self.folder = engine, folder
        self.state = EngineState.STARTING
        self.deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._process: subprocess.Popen[bytes] | None = None
        self._service: Service | None = None
        # A name without `@` and `:`, which engines take for revisions and files.
        (folder / MODEL).symlink_to(weights.resolve(), target_is_directory=True)

    @property
    def socket(self) -> Path:
        """Where the engine listens."""
        return self.folder / SOCKET

    @property
    def log_tail(self) -> str:
        """The last lines that the engine wrote."""
        return tail(self.folder / LOG, 15)

    def client(self, seconds: float) -> httpx.AsyncClient:
        """Return a client that talks to this engine alone; proxies of the environment are not asked."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        return httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=seconds, trust_env=False)

    def start(self) -> None:
        """Start the engine, its output in the log; a pipe to its standard input breaks when we end, however we do."""
        self.socket.unlink(missing_ok=True)
        self.state = EngineState.STARTING
        with (self.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                self.engine.command,
                cwd=self.folder,
                env={**os.environ, **self.engine.environment},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is ours to pass on
            )
        pid = self._process.pid
        self._service = Service(name=str(self.engine.name), pid=pid, started=start_time(pid) or "")

    @property
    def alive(self) -> bool:
        """Whether the engine's process still runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the engine and whatever it started."""
        if self._process is None or self._service is None:
            return
        end(session_of(self._service))
        self._process.wait(timeout=10)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    async def answers(self) -> bool:
        """Say whether the engine is up and healthy."""
        try:
            async with self.client(5) as client:
                return (await client.get("/health")).status_code == 200
        except httpx.HTTPError:
            return False

    async def wait_until_ready(self, seconds: float) -> None:
        """Wait until a started engine answers.

        Raises:
            ManifestError: It ended, or does not answer in time; its last words are in the message.
        """
        stop = time.monotonic() + seconds
        while not await self.answers():
            if not self.alive:
                raise ManifestError(
                    f"the engine {self.engine.name} ended while it started; its last words:\n{self.log_tail}"
                )
            if time.monotonic() > stop:
                raise ManifestError(
                    f"the engine {self.engine.name} did not answer within {seconds:.0f} s; its last words:\n"
                    f"{self.log_tail}\nGive it longer with --start-seconds, if the model is large"
                )
            await asyncio.sleep(0.1)
        self.state = EngineState.READY

    async def watch(self, seconds: float, every: float = 0.5) -> None:
        """Start the engine again whenever it dies, or does not answer in time; return, as failed, when too often.

        Args:
            seconds: How long a start may take.
            every: Pause between two looks.
        """
        while True:
            await asyncio.sleep(every)
            if self.alive:
                continue
            self.deaths.append(time.monotonic())
            if len(self.deaths) == MOST_DEATHS and self.deaths[-1] - self.deaths[0] < DEATHS_WITHIN_SECONDS:
                self.state = EngineState.FAILED
                return
            self.stop()
            self.start()
            try:
                await self.wait_until_ready(seconds)
            except ManifestError:
                self.stop()  # one that is only slow is ended too: the next look counts one more death
