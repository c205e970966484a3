import json
import socket

import pytest

from pipelines.health import Answer, answers, ask, basic, busy, free_port, has_node


@pytest.mark.parametrize(
    ("states", "works"), [([], False), (["DEAD"], False), (["ALIVE"], True), (["DEAD", "ALIVE"], True)]
)
def test_a_ray_without_a_living_node_is_not_up(states: list[str], works: bool) -> None:
    told = {"data": {"result": {"result": [{"state": state} for state in states]}}}
    assert has_node(Answer(200, json.dumps(told).encode())) is works
    assert not has_node(Answer(0)) and not has_node(Answer(401))


def test_what_does_not_listen_does_not_answer() -> None:
    port = free_port("127.0.0.1")
    assert not busy("127.0.0.1", port) and ask(f"http://127.0.0.1:{port}/") == Answer(0)
    assert not answers(f"http://127.0.0.1:{port}/") and not answers("no address")
    with socket.create_server(("127.0.0.1", port)):
        assert busy("127.0.0.1", port)


def test_no_password_is_no_header() -> None:
    assert basic("") == {}
    assert basic("Aladdin:open sesame") == {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}  # RFC 7617
