"""Whether a service answers: asked directly, past any proxy, and never for long."""

import base64
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple

ANSWER_SECONDS = 3


class Answer(NamedTuple):
    """What a service answered."""

    status: int
    """As HTTP has it; 0 where nothing answered."""
    body: bytes = b""


def ask(url: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return what an address answers now."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, headers=dict(headers or {}))
        with opener.open(request, timeout=ANSWER_SECONDS) as response:
            return Answer(response.status, bytes(response.read()))
    except urllib.error.HTTPError as error:
        return Answer(error.code)
    except (OSError, ValueError):
        return Answer(0)


def answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    """Say whether an address answers 200 now."""
    return ask(url, headers).status == 200


def basic(credential: str) -> dict[str, str]:
    """Return the header with a `name:password`, none where there is none."""
    if not credential:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(credential.encode()).decode()}"}


def has_node(told: Answer) -> bool:
    """Say whether a Ray has a machine to work on, by what its `/api/v0/nodes` tells.

    Its dashboard answers before there is one; on a busy machine the node may end while it starts.
    """
    if told.status != 200:
        return False
    nodes = json.loads(told.body)["data"]["result"]["result"]
    return any(node["state"] == "ALIVE" for node in nodes)


def busy(host: str, port: int) -> bool:
    """Say whether something listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def free_port(host: str) -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
