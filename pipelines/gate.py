"""The approval gate: a flow that stops after its filters until a person has looked at what they kept."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect import get_run_logger, suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort
from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment
from prefect.runtime import flow_run as current_flow
from prefect.states import Cancelled
from pydantic import Field

from infra.settings import settings
from infra.storage import Store
from pipelines import notices
from pipelines.approvals import (
    KEY,
    Decision,
    Rejected,
    approved,
    digests_of,
    dropped_by,
    funnel,
    keep,
    split,
    verdicts_of,
)
from pipelines.graph import Step
from pipelines.moves import tell
from pipelines.names import Answer
from pipelines.plan import preflight
from pipelines.presence import present
from pipelines.schedule import run_steps
from stages.manifest import Manifest, digest_of

PATIENCE_SECONDS = 90 * 86_400
"""How long an answer may take; then the run fails, and what it made is kept."""
POLL_SECONDS = 2


class EndedMeanwhile(Abort):
    """The run was ended from outside while it waited; Prefect leaves its state as it is."""

    def __init__(self, state: State[Any]) -> None:
        """Keep the state that it has now."""
        super().__init__("the run was ended while it waited for an approval; nothing was trained")
        self.state = state


class Approval(RunInput):
    """The form that a person answers."""

    # Chosen, not switched: a form that is sent untouched must not end a run.
    answer: Answer = Field(description="approve: train on what the filters kept; reject: the run ends, untrained.")
    note: str = Field(default="", max_length=2000, description="Why; kept beside the shards, shown by internvl show.")
    who: str = Field(default="", max_length=200, description="Your name; kept with the note.")


def run_with_approval(steps: Sequence[Step], force: bool = False) -> list[str]:
    """Run the steps up to the filters, wait for a person's approval, then run the others.

    A run of a deployment is suspended: its process ends, and a new one goes on when the form is answered. One of
    a terminal has no deployment that could start it again, so it stays and waits.

    Raises:
        Rejected: The person said no; nothing was trained.
        EndedMeanwhile: The run was ended while it waited.
        ValueError: None of the steps filters, or nothing follows those that do.
    """
    before, after = split(steps)
    store = Store(settings().store_root)
    preflight(steps, store, force)
    # What was forced stands when a suspended or a failed run comes back: it is not made a second time.
    made = run_steps(before, force and not _asked(KEY))
    shards = [step.spec.artifact for step in after if step.spec.stage == "write_shards"]
    while True:
        # Read again after each answer, which may take weeks: what was approved is what is trained on.
        verdicts = verdicts_of(before, store)
        digests = digests_of(verdicts)
        earlier = [decision for ref in shards if (decision := approved(store, ref, digests))]
        if shards and len(earlier) == len(shards):
            get_run_logger().info("these verdicts were %s", earlier[-1].sentence)
            break
        decision = _ask(verdicts)
        for ref in shards:
            keep(store, ref, decision)
        if not decision.approved:
            raise Rejected(f"the filters' result was {decision.sentence}; nothing was trained")
        if digests_of(verdicts_of(before, store)) == digests:
            break
    return [*made, *run_steps(after, force)]


def _asked(prefix: str) -> bool:
    """Say whether this very run asked a question whose key begins so; a retry does not make it forget."""
    if not current_flow.id:
        return False
    with get_client(sync_client=True) as client:
        for way in ("suspended", "paused"):
            if client.filter_flow_run_input(UUID(current_flow.id), f"{way}-{prefix}", limit=1, exclude_keys=set()):
                return True
    return False


def _attempt() -> int:
    """Return how often this run was begun: by a retry, not by an answer."""
    if not current_flow.id:
        return 0
    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(current_flow.id)).run_count


def _ask(verdicts: Sequence[Manifest]) -> Decision:
    """Show the funnel in a form and return what a person answers."""
    here, digests = settings(), digests_of(verdicts)
    run = f"{current_flow.name}"
    links = "\n".join(
        f"- [{each.ref}]({here.report_url}/{each.ref.folder}/): {dropped_by(each)}" for each in verdicts
    )
    text = (
        f"### What the filters kept\n\n{funnel(verdicts)}\n\nThe reports show samples and thresholds:\n\n{links}\n\n"
        f"Approve to train on it. From a terminal: `internvl approve {run}` or "
        f"`internvl approve {run} --reject --note WHY`"
    )
    form = Approval.with_initial_data(description=text)
    # Another result of the filters is another question, and so is the same one of a run that was retried.
    key = f"{KEY}{digest_of(digests)[:16]}-{_attempt()}"
    tell("", "waiting", {"run": run})
    if not _asked(key):
        told = "the filters have ended; a person is asked before anything trains"
        notices.send("approval needed", run, told, str(current_flow.id))
    if deployment.id:
        answer = suspend_flow_run(wait_for_input=form, timeout=PATIENCE_SECONDS, key=key)
    else:
        with present():
            answer = asyncio.run(_answer_here(form, key))
    return Decision(
        approved=answer.answer is Answer.APPROVE,
        note=answer.note,
        who=answer.who,
        verdicts=digests,
        flow_run=str(current_flow.id),
        when=time.time(),
    )


async def _answer_here(form: type[Approval], key: str) -> Any:
    """Pause this run until its form is answered.

    Raises:
        EndedMeanwhile: The run was cancelled, or ended, while it waited; Prefect's own pause would wait on.
    """
    asking = asyncio.create_task(
        apause_flow_run(wait_for_input=form, timeout=PATIENCE_SECONDS, poll_interval=POLL_SECONDS, key=key)
    )
    try:
        async with get_client() as client:
            while not (await asyncio.wait({asking}, timeout=POLL_SECONDS))[0]:
                run = UUID(str(current_flow.id))
                state = (await client.read_flow_run(run)).state
                if state is None or not (state.is_final() or state.is_cancelling()):
                    continue
                if state.is_cancelling():
                    # Nobody else would: this process has no Runner, and after it nothing tells that it is gone.
                    state = Cancelled(message="cancelled while it waited for an approval")
                    await client.set_flow_run_state(run, state, force=True)
                raise EndedMeanwhile(state)
            return asking.result()
    finally:
        asking.cancel()
