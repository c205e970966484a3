"""Everything together: an engine, the gateway in front of it, the page, and their end."""

import secrets
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, NoReturn

import uvicorn

from stages.manifest import ManifestError
from stages.serving.doors import COOKIE, Doors
from stages.serving.engine_process import EngineProcess, EngineState
from stages.serving.engines import SOCKET, engine_for
from stages.serving.gateway import gateway
from stages.serving.limits import Limits
from stages.serving.names import LOOPBACK, EngineName
from stages.serving.public_url import PublicUrl
from stages.serving.relay import Relay
from stages.serving.served_model import ServedModel

LONGEST_SOCKET = 107
"""Bytes of a socket's path that Linux takes."""


class Address(NamedTuple):
    """Where a server listens, and what whoever comes has to know; a random token when it is left out."""

    host: str
    port: int
    token: str | None = None
    public: PublicUrl | None = None
    """Where a proxy in front of it lets others in."""


class Server:
    """One model, served until somebody stops it."""

    def __init__(
        self,
        model: ServedModel,
        limits: Limits,
        address: Address,
        engine: EngineName = EngineName.AUTO,
        device: str = "auto",
        *,
        page: bool = True,
    ) -> None:
        """Choose the engine.

        Raises:
            ManifestError: It is not installed.
        """
        self.model, self.limits, self._address, self._page = model, limits, address, page
        self._engine = engine_for(engine, model, limits, device)
        self._token = address.token or secrets.token_urlsafe(24)

    def run(self, start_seconds: float, say: Callable[[str], None]) -> None:
        """Start the engine, answer until Ctrl-C, SIGTERM or SIGHUP, and end whatever was started.

        The process is to take signals as `ends_when_told` does. While the engine loads, and when it is started
        again, what needs it is answered with 503.

        Raises:
            ManifestError: The engine does not start, or dies again and again; or the port is taken.
        """
        with closing(self._listen()) as listening, tempfile.TemporaryDirectory(prefix="internvl-serve-") as name:
            folder = Path(name)
            process = self._process(folder)
            try:
                say(f"loading {self.model.name} into {self._engine.name}")
                process.start()
                self._answer(process, listening, folder, start_seconds, say)
            except KeyboardInterrupt:
                say("stopped")
            finally:
                process.stop()

    def _process(self, folder: Path) -> EngineProcess:
        place = folder / "engine"
        if len(str(place / SOCKET).encode()) > LONGEST_SOCKET:
            raise ManifestError(f"{folder} is too long a name for a socket's folder; set TMPDIR to a shorter one")
        place.mkdir()
        return EngineProcess(self._engine, self.model.folder, place)

    def _listen(self) -> socket.socket:
        host, port, *_ = self._address
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, port), family=family)
        except OSError as error:
            raise ManifestError(
                f"cannot listen on {host} port {port}: {error.strerror or error}; name another with --port, 0 takes "
                "a free one"
            ) from None

    def _answer(
        self,
        process: EngineProcess,
        listening: socket.socket,
        folder: Path,
        start_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        """Serve until a signal comes or the engine is given up."""
        port = listening.getsockname()[1]
        relay = Relay(process, self.model, self.limits)

        trouble: list[ManifestError] = []

        async def watch() -> None:
            try:
                await process.wait_until_ready(start_seconds)
                self._tell(port, say)
                await process.watch(start_seconds)
            except ManifestError as error:
                trouble.append(error)
            server.should_exit = True

        app = gateway(relay, watch)
        if self._page:
            from stages.serving.page import add_page

            (uploads := folder / "page").mkdir()
            add_page(app, relay, uploads, self._address.public)
        doors = Doors(
            app, self._token, self._names(port), self.limits.body_bytes, f"{COOKIE}-{port}", self._address.public
        )
        server = uvicorn.Server(
            uvicorn.Config(
                doors, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
        )  # fmt: skip
        server.run(sockets=[listening])
        if trouble:
            raise trouble[0]
        if process.state is EngineState.FAILED:
            raise ManifestError(f"the engine died {len(process.deaths)} times; its last words:\n{process.log_tail}")

    def _names(self, port: int) -> frozenset[str] | None:
        """Return the names by which the server may be asked, None where it may be any."""
        if self._address.host not in LOOPBACK:
            return None
        public = {self._address.public.host} if self._address.public else set()
        return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")) | public

    def _tell(self, port: int, say: Callable[[str], None]) -> None:
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        root = f"http://{host}:{port}"
        shown = self._token if self._address.token is None else "YOUR_TOKEN"
        if self._address.public:
            say(f"listening  {root}, for the proxy")
            root = self._address.public.root
        if self._page:
            say(f"chat page  {root}/?token={shown}")
        say(f"endpoint   {root}/v1  (OpenAI's clients: base_url, api_key={shown}, model={self.model.name})")
        say("Ctrl-C ends it")


def ends_when_told() -> None:
    """Let SIGTERM end this process as Ctrl-C does, and SIGHUP, a terminal's end, too where nohup did not say no."""
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # As SIGTERM: uvicorn, while it runs, has that one in its own hands.
        signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
