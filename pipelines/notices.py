"""Notices to a webhook of yours: a run failed, finished, or waits for a person.

The address and its secret are read from the environment of the process that runs the flow and go nowhere else: into
no manifest, no log, no Ray job. What is sent passes the same rules as a download does.
"""

import hashlib
import hmac
import json
import logging
import os
import threading
import time
from typing import Any, Literal

from infra.egress import Guard
from infra.egress_error import EgressError
from infra.settings import settings

Event = Literal["approval needed", "failed", "finished"]
TRIES = 3
TRY_SECONDS = 5.0
PAUSE_SECONDS = 1.0
"""Before the second try; four times as long before each further one."""
MOST_TEXT = 500

log = logging.getLogger(__name__)


def send(event: Event, run: str, text: str, flow_run_id: str = "") -> threading.Thread | None:
    """Tell `INTERNVL_WEBHOOK` of an event, in a thread of its own: no run waits for it, and none fails with it.

    The body is JSON. Where `INTERNVL_WEBHOOK_SECRET` is set, `X-Internvl-Signature` holds `sha256=` and the HMAC of
    the body. Only public addresses are asked, and those that `INTERNVL_WEBHOOK_ALLOW` names (`host:port`, commas).

    Returns:
        The thread, None where no webhook is set.
    """
    if not (url := os.environ.get("INTERNVL_WEBHOOK")):
        return None
    here = settings()
    page = f"{here.prefect_ui_url}/runs/flow-run/{flow_run_id}" if flow_run_id else here.prefect_ui_url
    told = {
        "event": event,
        "run": run,
        "text": text[:MOST_TEXT],
        "links": {"run": page, "reports": here.report_url},
        "time": int(time.time()),
    }
    body = json.dumps(told, ensure_ascii=False).encode()
    # Not a daemon: a process that ends right after an event still gets the word out, in bounded time.
    thread = threading.Thread(target=_deliver, args=(url, body), name="webhook")
    thread.start()
    return thread


def _headers(body: bytes) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "internvl-pipeline/0.1"}
    if secret := os.environ.get("INTERNVL_WEBHOOK_SECRET"):
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Internvl-Signature"] = f"sha256={signature}"
    return headers


def _deliver(url: str, body: bytes) -> None:
    named = os.environ.get("INTERNVL_WEBHOOK_ALLOW", "").split(",")
    guard = Guard(
        allow=frozenset(each.strip() for each in named if each.strip()),
        timeout_seconds=TRY_SECONDS,
        deadline_seconds=TRY_SECONDS,
        fetches_at_once=1,
    )
    for tries in range(TRIES):
        if tries:
            time.sleep(PAUSE_SECONDS * 4 ** (tries - 1))
        try:
            guard.post(url, body, _headers(body))
            return
        except EgressError as error:
            # The address may hold a secret: only the reason is told.
            said = f"the webhook was not told, try {tries + 1} of {TRIES}: {error.reason}"
            if error.reason == "refused_address":
                log.warning("%s; a private address must be named in INTERNVL_WEBHOOK_ALLOW=host:port", said)
                return
            log.warning(said)


def finished(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell that a run ended well, unless it was dry; Prefect passes exactly these three names."""
    if (flow_run.parameters or {}).get("dry_run"):
        return
    send("finished", flow_run.name, f"{flow.name} finished", str(flow_run.id))


def failed(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell that a run failed or crashed; Prefect passes exactly these three names."""
    first = next(iter(str(state.message or state.name).splitlines()), "")
    send("failed", flow_run.name, first, str(flow_run.id))
