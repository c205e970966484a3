"""A step waits for a Prefect server that is started again, and not for ever."""

import time

import httpx
import pytest

from pipelines import patience


class _Server:
    """Is away for the first calls."""

    def __init__(self, away: int) -> None:
        self.away, self.asked = away, 0

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self.away:
            raise httpx.ConnectError("nobody listens")
        return "told"


def test_a_step_asks_until_prefect_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server = _Server(away=3)
    assert patience.patiently(server) == "told" and server.asked == 4


def test_a_prefect_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(patience, "PREFECT_PATIENCE_SECONDS", -1.0)
    with pytest.raises(httpx.ConnectError, match="nobody listens"):
        patience.patiently(_Server(away=3))


def test_a_refusal_is_not_asked_again() -> None:
    def refuses() -> str:
        raise ValueError("no such flow run")

    with pytest.raises(ValueError, match="no such flow run"):
        patience.patiently(refuses)
