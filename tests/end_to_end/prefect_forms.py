"""What a person does on Prefect's pages: fill in a form, start a run, look at it, answer it, cancel it."""

import os
import re
from pathlib import Path
from typing import Any

from installation import Installation, wait_for

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def picture(page: Any, name: str) -> None:
    """Keep a screenshot where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(2000)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def sign_in(page: Any, here: Installation) -> None:
    """Show Prefect's password once, as a person does; a wrong one lets nobody in."""
    page.goto(f"{here.prefect}/")
    page.wait_for_url(re.compile(r"/login\?"))
    given = page.locator("input[type=password]")
    given.fill("internvl:wrong")
    page.keyboard.press("Enter")
    page.get_by_text("Invalid credentials").wait_for()
    given.fill(here.password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/login" not in url)


def field(page: Any, parameter: str) -> Any:
    """Return what belongs to one parameter of a form."""
    return page.locator(".p-label", has=page.get_by_text(re.compile(rf"^{parameter}( \(Optional\))?$"))).last


def choose(page: Any, parameter: str, value: str) -> None:
    """Choose from the drop-down of a parameter, with the keyboard to open it."""
    field(page, parameter).locator(".p-select button").first.focus()
    page.keyboard.press("Space")
    page.locator(".p-select-option", has_text=re.compile(f"^{value}$")).click()
    page.keyboard.press("Escape")


def switch_on(page: Any, parameter: str) -> None:
    """Turn a switch on; its input is there for screen readers alone."""
    field(page, parameter).locator("input[type=checkbox]").first.dispatch_event("click")


def write(page: Any, parameter: str, text: str) -> None:
    """Write into the field of a parameter."""
    field(page, parameter).locator("textarea").first.fill(text)


def add(page: Any, parameter: str, text: str) -> None:
    """Add a line to a list."""
    field(page, parameter).get_by_role("button", name="Add item").click()
    field(page, parameter).locator("textarea").last.fill(text)


def open_form(page: Any, here: Installation, deployment: str) -> str:
    """Open the form that starts runs of a deployment; return the deployment's id."""
    found: str = here.api("GET", f"/deployments/name/{deployment}/{deployment}")["id"]
    page.goto(f"{here.prefect}/deployments/deployment/{found}/run")
    page.get_by_role("button", name="Submit").wait_for()
    return found


def submit(page: Any, here: Installation, deployment_id: str) -> Any:
    """Send a form; return the run that it started."""

    def newest() -> Any:
        body = {"flow_runs": {"deployment_id": {"any_": [deployment_id]}}, "sort": "EXPECTED_START_TIME_DESC"}
        found = here.api("POST", "/flow_runs/filter", {**body, "limit": 1})
        return found[0] if found and found[0]["id"] != before else None

    before = ""
    before = (newest() or {"id": ""})["id"]
    page.wait_for_timeout(2000)  # the form takes over what was typed only after a moment
    page.get_by_role("button", name="Submit").click()
    return wait_for("the run", newest, 60)


def open_run(page: Any, here: Installation, run: str) -> None:
    """Open the page of a run."""
    page.goto(f"{here.prefect}/runs/flow-run/{run}")


def state_of(here: Installation, run: str) -> Any:
    """Return the state of a run."""
    return here.api("GET", f"/flow_runs/{run}")["state"]


def wait_for_state(here: Installation, run: str, name: str, seconds: float = 300) -> Any:
    """Return the state of a run as soon as it has this name.

    Raises:
        AssertionError: It ended in another one.
    """

    def now() -> Any:
        state = state_of(here, run)
        assert state["name"] == name or state["type"] not in ENDED, state
        return state if state["name"] == name else None

    return wait_for(f"the run to be {name}", now, seconds)
