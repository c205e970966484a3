"""The approval gate: a flow that stops after its filters until a person has looked at what they kept."""

import time
from collections.abc import Sequence
from uuid import UUID

from prefect import get_run_logger, pause_flow_run, suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.input import RunInput
from prefect.runtime import deployment
from prefect.runtime import flow_run as current_flow
from pydantic import Field

from infra.settings import settings
from infra.storage import Store
from pipelines import notices
from pipelines.approvals import Decision, Rejected, approved, digests_of, dropped_by, funnel, keep, split, verdicts_of
from pipelines.graph import Step
from pipelines.plan import preflight
from pipelines.presence import present
from pipelines.schedule import run_steps
from pipelines.steps import tell
from stages.manifest import Manifest, digest_of

PATIENCE_SECONDS = 90 * 86_400
"""How long an answer may take; then the run fails, and what it made is kept."""
POLL_SECONDS = 2
KEY = "approval-"
"""How Prefect's names of our questions begin."""


class Approval(RunInput):
    """The form that a person answers."""

    approve: bool = Field(description="Train on what the filters kept; if not, the run ends and trains nothing.")
    note: str = Field(default="", max_length=2000, description="Why; kept beside the shards, shown by internvl show.")
    who: str = Field(default="", max_length=200, description="Your name; kept with the note.")


def run_with_approval(steps: Sequence[Step], force: bool = False) -> list[str]:
    """Run the steps up to the filters, wait for a person's approval, then run the others.

    A run of a deployment is suspended: its process ends, and a new one goes on when the form is answered. One of
    a terminal has no deployment that could start it again, so it stays and waits.

    Raises:
        Rejected: The person said no; nothing was trained.
        ValueError: None of the steps filters.
    """
    before, after = split(steps)
    store = Store(settings().store_root)
    preflight(steps, store, force)
    # What was forced stands when a suspended run comes back: it is not made a second time.
    made = run_steps(before, force and not _asked())
    verdicts = verdicts_of(before, store)
    digests = digests_of(verdicts)
    shards = [step.spec.artifact for step in steps if step.spec.stage == "write_shards"]
    earlier = [decision for ref in shards if (decision := approved(store, ref, digests))]
    if not shards or len(earlier) < len(shards):
        decision = _ask(verdicts)
        for ref in shards:
            keep(store, ref, decision)
        if not decision.approved:
            raise Rejected(f"the filters' result was {decision.sentence}; nothing was trained")
    else:
        get_run_logger().info("these verdicts were %s", earlier[-1].sentence)
    return [*made, *run_steps(after, force)]


def _asked() -> bool:
    """Say whether this very run was suspended before, so that it now goes on."""
    if not current_flow.id:
        return False
    with get_client(sync_client=True) as client:
        policy = client.read_flow_run(UUID(current_flow.id)).empirical_policy
    return any(str(key).startswith(KEY) for key in policy.pause_keys or ())


def _ask(verdicts: Sequence[Manifest]) -> Decision:
    """Show the funnel in a form and return what a person answers."""
    here, digests = settings(), digests_of(verdicts)
    run = f"{current_flow.name}"
    links = "\n".join(
        f"- [{each.ref}]({here.report_url}/{each.ref.folder}/): dropped by {dropped_by(each)}" for each in verdicts
    )
    text = (
        f"### What the filters kept\n\n{funnel(verdicts)}\n\nThe reports show samples and thresholds:\n\n{links}\n\n"
        f"Approve to train on it. From a terminal: `internvl approve {run}` or "
        f"`internvl approve {run} --reject --note WHY`"
    )
    form = Approval.with_initial_data(description=text)
    # Another result of the filters is another question.
    key = f"{KEY}{digest_of(digests)[:16]}"
    tell("", "waiting", {"run": run})
    if not _asked():
        told = "the filters have ended; a person is asked before anything trains"
        notices.send("approval needed", run, told, str(current_flow.id))
    if deployment.id:
        answer = suspend_flow_run(wait_for_input=form, timeout=PATIENCE_SECONDS, key=key)
    else:
        with present():
            answer = pause_flow_run(
                wait_for_input=form, timeout=PATIENCE_SECONDS, poll_interval=POLL_SECONDS, key=key
            )
    return Decision(
        approved=answer.approve,
        note=answer.note,
        who=answer.who,
        verdicts=digests,
        flow_run=str(current_flow.id),
        when=time.time(),
    )
