"""A gateway on a port of this process, in front of a program that stands in for an engine."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import stub_engine
import uvicorn
from fastapi import FastAPI
from installation import free_port, wait_for

from stages.serving.doors import Doors
from stages.serving.engine_process import EngineProcess
from stages.serving.engines import Engine
from stages.serving.gateway import gateway
from stages.serving.limits import Limits
from stages.serving.names import EngineName
from stages.serving.public_url import PublicUrl
from stages.serving.relay import Relay
from stages.serving.served_model import ServedModel

TOKEN = "a-token-for-tests-alone"
LIMITS = Limits(body_bytes=3_000_000, picture_bytes=1_000_000, picture_pixels=1_000_000, pictures=3, at_once=2)


def stub(*words: str) -> Engine:
    return Engine(EngineName.TRANSFORMERS, (sys.executable, "-S", str(stub_engine.__file__), *words))


@dataclass
class Running:
    """A gateway on a port, and the stand-in behind it."""

    port: int
    process: EngineProcess
    relay: Relay
    app: FastAPI

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **headers: str) -> httpx.Client:
        given = {"authorization": f"Bearer {TOKEN}", **headers}
        return httpx.Client(base_url=self.url, headers=given, timeout=30, trust_env=False)


@contextmanager
def running(
    model: ServedModel, folder: Path, limits: Limits = LIMITS, page: bool = False, public: PublicUrl | None = None
) -> Iterator[Running]:
    """Serve in a thread as `stages.serving.server` does in a process."""
    (folder / "engine").mkdir()
    process, port = EngineProcess(stub(), model.folder, folder / "engine"), free_port()
    relay = Relay(process, model, limits)
    process.start()
    asyncio.run(process.wait_until_ready(30))
    app = gateway(relay, lambda: process.watch(30, every=0.05))
    if page:
        from stages.serving.page import add_page

        (folder / "page").mkdir()
        add_page(app, relay, folder / "page", public)
    names = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"} | ({public.host} if public else set()))
    doors = Doors(app, TOKEN, names, limits.body_bytes, f"internvl-serve-{port}", public)
    config = uvicorn.Config(doors, port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for("the gateway", lambda: server.started, 30)
        yield Running(port, process, relay, app)
    finally:
        server.should_exit = True
        thread.join(10)
        process.stop()
