"""What a person does in the browser: start a rerun from its form, see it complete, read the filter report."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import Installation

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def page() -> Iterator[Any]:
    """Return a page of a browser without a window."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine; `apt-get install chromium` brings one")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        page.set_default_timeout(90_000)
        yield page
        browser.close()


def picture(page: Any, name: str) -> None:
    """Keep a screenshot where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_a_rerun_from_its_form_ends_in_a_filter_report(smoke: Installation, page: Any) -> None:
    deployment = smoke.api("GET", "/deployments/name/rerun/rerun")
    page.goto(f"{smoke.prefect}/deployments/deployment/{deployment['id']}/run")
    page.get_by_text("Which stage", exact=False).first.wait_for()
    picture(page, "form")
