"""What a person does in the browser: start a rerun from its form, see it complete, read the filter report."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import Installation, wait_for

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
        page.wait_for_timeout(2000)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def sign_in(page: Any, here: Installation) -> None:
    """Show the password once, as a person does; a wrong one lets nobody in."""
    page.goto(f"{here.prefect}/")
    page.wait_for_url(re.compile(r"/login\?"))
    field = page.locator("input[type=password]")
    field.fill("internvl:wrong")
    page.keyboard.press("Enter")
    page.get_by_text("Invalid credentials").wait_for()
    field.fill(here.password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/login" not in url)


def choose(page: Any, parameter: str, value: str) -> None:
    """Choose from the drop-down of a parameter, with the keyboard to open it."""
    button = page.locator(".p-label", has=page.get_by_text(parameter, exact=False)).locator(".p-select button")
    button.first.focus()
    page.keyboard.press("Space")
    page.locator(".p-select-option", has_text=re.compile(f"^{value}$")).click()


def test_a_rerun_from_its_form_ends_in_a_filter_report(smoke: Installation, page: Any) -> None:
    sign_in(page, smoke)
    deployment = smoke.api("GET", "/deployments/name/rerun/rerun")
    page.goto(f"{smoke.prefect}/deployments/deployment/{deployment['id']}/run")
    page.get_by_text("Which stage.").first.wait_for()
    choose(page, "stage", "filter")
    choose(page, "recipe", "smoke")
    choose(page, "sources", "cc3m")
    page.keyboard.press("Escape")
    page.locator(".p-label", has_text="new_version").locator("textarea").fill("browser")
    picture(page, "form")
    page.wait_for_timeout(2000)  # the form takes over what was typed only after a moment
    page.get_by_role("button", name="Submit").click()

    def run() -> Any:
        body = {
            "flow_runs": {"deployment_id": {"any_": [deployment["id"]]}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": 1,
        }
        found = smoke.api("POST", "/flow_runs/filter", body)
        return found[0] if found and found[0]["parameters"].get("new_version") == "browser" else None

    started = wait_for("the run", run, 60)
    assert started["parameters"]["stage"] == "filter"
    assert started["parameters"]["sources"] == ["cc3m"]
    page.goto(f"{smoke.prefect}/runs/flow-run/{started['id']}")

    def ended() -> Any:
        state = smoke.api("GET", f"/flow_runs/{started['id']}")["state_type"]
        return state if state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    assert wait_for("the run to end", ended) == "COMPLETED"
    page.get_by_text("filter clean/cc3m").first.wait_for()
    picture(page, "run")
    assert smoke.manifest("verdicts/clean/cc3m@browser").ledger == smoke.manifest("verdicts/clean/cc3m@smoke").ledger
    key = {"artifacts": {"key": {"any_": ["verdicts-clean-cc3m"]}}, "sort": "CREATED_DESC", "limit": 1}
    (artifact,) = smoke.api("POST", "/artifacts/filter", key)
    assert artifact["flow_run_id"] == started["id"]
    page.goto(f"{smoke.prefect}/artifacts/artifact/{artifact['id']}")
    link = page.get_by_role("link", name="Open the", exact=False).first
    link.wait_for()
    picture(page, "artifact")
    report = link.get_attribute("href")
    assert report.startswith(smoke.reports)
    # The artifact lies in Prefect's database, so its link lets nobody in: the page says how to get in.
    page.goto(report)
    page.get_by_text("This page asks who you are").wait_for()
    assert smoke.report_token not in artifact["data"]
    page.goto(smoke.report_link)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(report)
    page.get_by_text("cc3m").first.wait_for()
    picture(page, "report")
    page.goto(f"{smoke.reports}/")
    page.get_by_role("link", name="verdicts/clean/cc3m@browser").first.wait_for()
    picture(page, "list")
    for name, seen in (("Lineage", "verdicts/clean/cc3m@browser"), ("Parts", "Version "), ("Checkpoints", "In the")):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        page.get_by_text(seen).locator("visible=true").first.wait_for()  # a drawing has titles that nobody sees
        picture(page, name.lower())
    assert [text for text in errors if "favicon" not in text] == []
