"""What a person does in the browser: a rerun with another threshold, its pages and report; a run is cancelled."""

from typing import Any

import pytest
from installation import Installation, wait_for
from prefect_forms import add, choose, open_form, open_run, picture, sign_in, submit, wait_for_state, write

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]
ENDLESS = "schedule.steps=1000000"


def test_a_rerun_with_another_threshold_ends_in_a_filter_report(smoke: Installation, page: Any) -> None:
    made_before = len(smoke.jobs())
    sign_in(page, smoke)
    deployment = open_form(page, smoke, "rerun")
    choose(page, "stage", "filter")
    choose(page, "recipe", "smoke")
    choose(page, "sources", "cc3m")
    # Pictures of the site are 96 pixels wide: a rule that asks for 97 drops them all.
    add(page, "changes", "policy.min_side.min_pixels=97")
    write(page, "new_version", "browser")
    picture(page, "form")
    started = submit(page, smoke, deployment)
    assert started["parameters"]["stage"] == "filter"
    assert started["parameters"]["sources"] == ["cc3m"]
    open_run(page, smoke, started["id"])
    wait_for_state(smoke, started["id"], "Completed")
    page.get_by_text("filter clean/cc3m").first.wait_for()
    picture(page, "run")
    old, new = (smoke.manifest(f"verdicts/clean/cc3m@{version}") for version in ("smoke", "browser"))
    assert old.ledger.kept > 0 and new.ledger.kept == 0
    # What lies before the filters was found: only they had jobs, and they read what the first run had made.
    made = {job["metadata"]["artifact"] for job in smoke.jobs()}
    assert len(smoke.jobs()) == made_before + 2
    assert {f"verdicts/{policy}/cc3m@browser" for policy in ("clean", "caption_quality")} <= made
    assert new.identity["inputs"] == old.identity["inputs"]
    artifact = the_artifact(smoke, "verdicts-clean-cc3m", started["id"])
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
    look_at_our_pages(page, smoke, report)


def look_at_our_pages(page: Any, here: Installation, report: str) -> None:
    """Open the filter report and each live page, as one who was let in; nothing is missing, nothing complains."""
    page.goto(here.report_link)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(report)
    page.get_by_text("cc3m").first.wait_for()
    picture(page, "report")
    page.goto(f"{here.reports}/")
    page.get_by_role("link", name="verdicts/clean/cc3m@browser").first.wait_for()
    picture(page, "list")
    for name, seen in (("Lineage", "verdicts/clean/cc3m@browser"), ("Parts", "Version "), ("Checkpoints", "In the")):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        page.get_by_text(seen).locator("visible=true").first.wait_for()  # a drawing has titles that nobody sees
        picture(page, name.lower())
    assert [text for text in errors if "favicon" not in text] == []


def the_artifact(here: Installation, key: str, run: str) -> Any:
    """Return the newest artifact of a key, which this run made."""
    wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}
    (found,) = here.api("POST", "/artifacts/filter", wanted)
    assert found["flow_run_id"] == run
    return found


def test_a_run_that_is_watched_and_cancelled_on_its_page_stops_its_job(smoke: Installation, page: Any) -> None:
    artifact = "checkpoints/language@cancelled"
    deployment = smoke.api("GET", "/deployments/name/rerun/rerun")
    parameters = {"stage": "language", "recipe": "smoke", "changes": [ENDLESS], "new_version": "cancelled"}
    run = smoke.api("POST", f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    sign_in(page, smoke)
    open_run(page, smoke, run["id"])
    job = wait_for("the job", lambda: smoke.job(artifact))
    assert job["metadata"]["flow_run_id"] == run["id"]
    page.get_by_text("1 step to make", exact=False).first.wait_for()
    page.get_by_text(" of 1,000,000 steps", exact=False).first.wait_for()
    picture(page, "progress")
    page.get_by_role("button", name="Cancel").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    wait_for("the job to stop", lambda: smoke.job(artifact, "STOPPED"))
    wait_for_state(smoke, run["id"], "Cancelled")
    picture(page, "cancelled")
    assert not smoke.store.exists("checkpoints/language/cancelled/manifest.json")
