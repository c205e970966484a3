"""The approval gate with real services: started from its form, rejected, approved in a browser, asked once."""

from typing import Any

import pytest
from installation import Installation, wait_for
from prefect_forms import choose, open_form, open_run, picture, sign_in, submit, switch_on, wait_for_state, write

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]
ROAD = ("run", "internvl", "--recipe", "smoke", "--approve")


def test_a_person_rejects_then_approves_and_is_not_asked_again(smoke: Installation, page: Any) -> None:
    sign_in(page, smoke)
    deployment = open_form(page, smoke, "internvl")
    choose(page, "recipe", "smoke")
    switch_on(page, "approve_before_training")
    picture(page, "form-internvl")
    run = submit(page, smoke, deployment)
    assert run["parameters"]["recipe"] == "smoke" and run["parameters"]["approve_before_training"]
    open_run(page, smoke, run["id"])
    wait_for_state(smoke, run["id"], "Suspended")
    # All that lies before the gate was there already, and the run's page says so.
    page.get_by_text("verdicts/caption_quality/laion_en@smoke stands", exact=False).first.wait_for()
    answered = smoke.internvl("approve", run["id"], "--reject", "--note", "too many dogs")
    assert "was rejected" in answered
    failed = wait_for_state(smoke, run["id"], "Failed")
    assert "too many dogs; nothing was trained" in failed["message"]

    waiting = smoke.begin(*ROAD)
    (paused,) = wait_for("the other run to wait", lambda: paused_runs(smoke))
    answer_in_browser(page, smoke, paused["id"])
    text, _ = waiting.communicate(timeout=900)
    assert waiting.returncode == 0, text[-3000:]
    assert "waits for your approval: internvl approve internvl-smoke" in text

    smoke.internvl(*ROAD)
    shown = smoke.internvl("show", "shards/clean@smoke")
    assert shown.index("too many dogs") < shown.index("dogs are fine")
    assert "no run waits" in smoke.internvl("approve", code=2)


def answer_in_browser(page: Any, here: Installation, run: str) -> None:
    """Read the funnel in a run's form, send it untouched, which is refused, then approve with a note."""
    open_run(page, here, run)
    page.get_by_role("button", name="Resume").first.click()
    form = page.get_by_role("dialog")
    form.get_by_role("cell", name="caption quality laion en").wait_for()
    page.wait_for_timeout(1000)  # the form takes its schema only after a moment
    form.get_by_role("button", name="Submit").click()
    form.get_by_text("'answer' is a required property").wait_for()
    choose(form.page, "Answer", "approve")
    write(page, "Note", "dogs are fine")
    picture(page, "gate")
    page.wait_for_timeout(2000)
    form.get_by_role("button", name="Submit").click()
    form.wait_for(state="hidden")


def paused_runs(here: Installation) -> list[Any]:
    """Return the runs that wait for a person."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
    found: list[Any] = here.api("POST", "/flow_runs/filter", wanted)
    return found
