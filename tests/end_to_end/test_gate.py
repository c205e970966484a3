"""The approval gate with real services: suspended and rejected, approved in a terminal, asked once."""

from typing import Any

import pytest
from installation import Installation, wait_for

pytestmark = pytest.mark.timeout(1800)
ROAD = ("run", "internvl", "--recipe", "smoke", "--approve")


def test_a_person_rejects_then_approves_and_is_not_asked_again(smoke: Installation) -> None:
    deployment = smoke.api("GET", "/deployments/name/internvl/internvl")
    parameters = {"recipe": "smoke", "approve_before_training": True}
    run = smoke.api("POST", f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})

    def state(name: str) -> Any:
        now = smoke.api("GET", f"/flow_runs/{run['id']}")["state"]
        return now if now["name"] == name else None

    wait_for("the run to be suspended", lambda: state("Suspended"))
    assert "was rejected" in smoke.internvl("approve", run["id"], "--reject", "--note", "too many dogs")
    failed = wait_for("the run to end", lambda: state("Failed"))
    assert "too many dogs; nothing was trained" in failed["message"]

    waiting = smoke.begin(*ROAD)
    wait_for("the other run to wait", lambda: paused(smoke))
    assert "was approved" in smoke.internvl("approve", "--note", "dogs are fine")
    text, _ = waiting.communicate(timeout=900)
    assert waiting.returncode == 0, text[-3000:]
    assert "waits for your approval: internvl approve internvl-smoke" in text

    smoke.internvl(*ROAD)
    shown = smoke.internvl("show", "shards/clean@smoke")
    assert shown.index("too many dogs") < shown.index("dogs are fine")
    assert "no run waits" in smoke.internvl("approve", code=2)


def paused(here: Installation) -> list[Any]:
    """Return the runs that wait for a person."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
    found: list[Any] = here.api("POST", "/flow_runs/filter", wanted)
    return found
