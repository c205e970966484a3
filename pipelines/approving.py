"""The command that answers a run which waits for an approval, as its form in the Prefect UI does."""

import getpass
import os
from typing import Annotated, Any

import typer

from infra.settings import settings
from pipelines.approvals import KEY
from pipelines.names import Answer
from pipelines.options import app
from pipelines.prefect_door import join, refusal
from pipelines.terminal import Refusal, clear_errors, console


@app.command()
def approve(
    run: Annotated[
        str | None, typer.Argument(help="Name or id of the run; the one that waits when left out.")
    ] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Train nothing: the run ends.")] = False,
    note: Annotated[str, typer.Option("--note", help="Why; kept beside the shards.")] = "",
) -> None:
    """Approve or reject what the filters kept, so that a waiting run goes on to training or ends."""
    with clear_errors():
        here = settings()
        join(here)
        if why := refusal(here):
            raise Refusal(why)
        from prefect.client.orchestration import get_client
        from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

        try:
            with get_client(sync_client=True) as client:
                waiting = _waiting(client)
                chosen = _chosen(waiting, run)
                answer = Answer.REJECT if reject else Answer.APPROVE
                form = {"answer": answer.value, "note": note, "who": _me()}
                result = client.resume_flow_run(chosen.id, run_input=form)
        except (PrefectHTTPStatusError, ObjectNotFound, OSError) as error:
            raise Refusal(f"Prefect at {here.prefect_api_url} did not take the answer: {error}") from error
        if result.status.value != "ACCEPT":
            raise Refusal(f"{chosen.name} cannot go on: {getattr(result.details, 'reason', result.status.value)}")
        console.print(f"{chosen.name} {'was rejected and ends' if reject else 'was approved and goes on'}")


def _me() -> str:
    """Return the name of whoever calls; in a container a user may have a number alone."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _waiting(client: Any) -> list[Any]:
    """Return the flow runs that wait for an approval, newest first: what others ask is not ours to answer."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
    found: list[Any] = client.read_flow_runs(flow_run_filter=paused, sort=FlowRunSort.START_TIME_DESC)
    return [each for each in found if (each.state.state_details.pause_key or "").startswith(KEY)]


def _chosen(waiting: list[Any], run: str | None) -> Any:
    """Return the run that is meant.

    Raises:
        Refusal: None, or more than one; the message lists those that wait.
    """
    named = [each for each in waiting if run is None or run in (each.name, str(each.id))]
    if len(named) == 1:
        return named[0]
    known = "\n".join(f"  {each.name}  {each.id}" for each in waiting)
    if not waiting:
        raise Refusal("no run waits for an approval")
    which = "several runs wait" if run is None or named else f"no run {run!r} waits"
    raise Refusal(f"{which}; name one by its id:\n{known}")
