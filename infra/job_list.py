"""Which jobs a Ray cluster runs, asked over HTTP: for pages and commands that only look.

Ray's own client loads all of Ray into a process; a page that is drawn every few seconds asks its dashboard directly.
"""

import json
import os
import urllib.request
from dataclasses import dataclass

from infra.installation import installation
from infra.jobs import FINISHED
from infra.settings import Settings

SECONDS = 3.0


@dataclass(frozen=True)
class Listed:
    """One job that has not ended."""

    submission_id: str
    artifact: str
    flow_run_id: str


def running_jobs(here: Settings) -> list[Listed] | None:
    """Return our jobs that have not ended; None where the cluster does not answer, so nobody knows."""
    request = urllib.request.Request(f"{here.ray_jobs_address}/api/jobs/", headers=_token(here))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as response:
            jobs = json.loads(response.read())
    except (OSError, ValueError):
        return None
    found, ours = [], installation(here)
    for job in jobs:
        told = job.get("metadata") or {}
        if job.get("status") not in FINISHED and "artifact" in told and told.get("installation") == ours:
            found.append(Listed(str(job["submission_id"]), told["artifact"], told.get("flow_run_id", "")))
    return found


def _token(here: Settings) -> dict[str, str]:
    """Return the header that the cluster asks for: our own cluster's token, or the one the environment names."""
    given = os.environ.get("RAY_AUTH_TOKEN")
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or str(here.ray_token_path)
    if not given and os.path.exists(path):
        with open(path, encoding="ascii") as file:
            given = file.read()
    return {"Authorization": f"Bearer {given.strip()}"} if given else {}
