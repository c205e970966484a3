"""`internvl serve` as a process, on a small checkpoint, with a real engine."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
import psutil
from installation import wait_for
from taught_models import taught

from infra.storage import Store
from stages.conversations import Parameters


@dataclass
class Command:
    """The command while it runs."""

    process: "subprocess.Popen[bytes]"
    log: Path
    store: Store

    def said(self) -> "re.Match[str] | None":
        """Return (address, token) as the command printed them, None where it has not yet."""
        return re.search(r"(http://127\.0\.0\.1:\d+)/\?token=([\w-]+)", self.log.read_text())

    @property
    def address(self) -> str:
        return self._said()[1]

    @property
    def token(self) -> str:
        return self._said()[2]

    def _said(self) -> "re.Match[str]":
        found = self.said()
        assert found, self.log.read_text()
        return found

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.address}/v1", api_key=self.token, max_retries=0, timeout=60)


@contextmanager
def serving(home: Path) -> Iterator[Command]:
    """Start the command, and hold it to what it promises when Ctrl-C ends it."""
    store = Store(str(home / "store"))
    shape = {"max_position_embeddings": 512}
    taught(store, Parameters(scenes=5), shape=shape, max_dynamic_patch=4, use_thumbnail=True)
    # A model that learned nothing never stops by itself.
    words = ["serve", "checkpoints/instruct@w", "--port", "0", "--device", "cpu", "--most-tokens", "16"]
    environment = {**os.environ, "INTERNVL_HOME": str(home), "INTERNVL_STORE": store.root}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *words], env=environment, stdout=log, stderr=subprocess.STDOUT,
            # A shell that starts the tests in the background hands down an ignored Ctrl-C; a terminal does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    found = Command(process, home / "log", store)
    try:
        wait_for("the address", lambda: found.said() or process.poll() is not None, 240)
        yield found
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("transformers_engine" in " ".join(child.cmdline()) for child in children)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0 and "stopped" in found.log.read_text()
        assert not [child for child in children if child.is_running()], "the engine ends with the command"
    finally:
        process.kill()
        process.wait(10)
