"""The smoke recipe, run once for all tests of this folder."""

import threading
import time

import pytest
from canaries import command_lines
from installation import Installation


@pytest.fixture(scope="session")
def smoke(installation: Installation) -> Installation:
    """Run the whole road once, from url lists to a chat model; watch who talks to whom and all command lines."""
    run = installation.begin("run", "internvl", "--recipe", "smoke")
    seen: list[str] = []
    assert run.stdout is not None
    reader = threading.Thread(target=lambda: seen.extend(run.stdout or ()), daemon=True)
    reader.start()
    stop, outer = time.monotonic() + 1500, set[tuple[str, str]]()
    while run.poll() is None and time.monotonic() < stop:
        outer |= installation.open_to_others()
        installation.command_lines |= set(command_lines())
        time.sleep(1)
    reader.join(timeout=10)
    assert run.returncode == 0, "".join(seen)[-6000:]
    installation.outer = outer
    return installation
