"""The smoke recipe, run once for all tests of this folder, and a page of a browser."""

import threading
import time
from collections.abc import Iterator
from typing import Any

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


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Return a page that waits as long as a busy machine needs."""
    page = browser.new_page(viewport={"width": 1400, "height": 1100})
    page.set_default_timeout(90_000)
    yield page
    page.close()
