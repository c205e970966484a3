"""The gateway with OpenAI's own client and with what is no client: streams, tokens, sizes, a dying engine."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from gateways import LIMITS, TOKEN, Running, running
from installation import wait_for
from small_web import jpeg

from stages.serving.pictures import seen
from stages.serving.served_model import ServedModel


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def client(served: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as found:
        yield found


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    (listed,) = client.models.list().data
    assert listed.id == "small" and client.models.retrieve("small").id == "small"
    with pytest.raises(openai.NotFoundError, match="the one there is: small"):
        client.models.retrieve("other")


def test_an_answer_comes_whole(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="small", messages=ask("hello"))
    assert found.object == "chat.completion" and found.model == "small" and found.id.startswith("chatcmpl-")
    (choice,) = found.choices
    assert (choice.message.content, choice.finish_reason) == ("I was asked: hello", "stop")
    assert found.usage is not None and found.usage.total_tokens == 9


def test_an_answer_comes_in_pieces(client: openai.OpenAI) -> None:
    options: Any = {"stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model="small", messages=ask("hello"), stream=True, **options))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert texts == ["", "I ", "was ", "asked: ", "hello", None]
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 4
    assert {chunk.model for chunk in chunks} == {"small"} and len({chunk.id for chunk in chunks}) == 1
    without = list(client.chat.completions.create(model="small", messages=ask("hello"), stream=True))
    assert all(chunk.choices for chunk in without)


def test_a_stream_is_passed_on_while_it_grows(served: Running) -> None:
    body = {"messages": ask("slowly"), "stream": True}
    with served.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"
        assert served.relay._busy == 1, "the engine has not finished"
        *_, last = (line for line in lines if line)
    assert last == "data: [DONE]"
    wait_for("the place to be free", lambda: served.relay._busy == 0, 10)


def test_the_engine_gets_pixels_and_nothing_else(served: Running, client: openai.OpenAI) -> None:
    url = seen(jpeg(1), LIMITS).data_url
    parts: Any = [{"type": "image_url", "image_url": {"url": url, "detail": "high"}}, {"type": "text", "text": "hm"}]
    client.chat.completions.create(model="small", messages=[{"role": "user", "content": parts}], max_tokens=5)
    sent = json.loads((served.process.folder / "asked.json").read_text())
    assert set(sent) == {"model", "messages", "max_tokens", "stream"} and sent["max_tokens"] == 5
    assert sent["messages"][0]["content"][0] == {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        (None, "no token was sent"),
        ("Bearer", "no token"),
        (f"Bearer {TOKEN}x", "not the server's"),
        (f"Bearer {TOKEN[:-1]}", "not the server's"),
        (f"Basic {TOKEN}", "not the server's"),
        ("Bearer \u00e4", "not the server's"),
    ],
)
def test_without_the_token_nothing_is_answered(served: Running, authorization: str | None, said: str) -> None:
    with served.client() as client:
        del client.headers["authorization"]
        headers = {} if authorization is None else {"authorization": authorization.encode()}
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("GET", "/v1/nothing")):
            found = client.request(method, path, headers=headers)
            assert found.status_code == 401 and found.headers["www-authenticate"] == "Bearer"
            assert said in found.json()["error"]["message"] and "api_key=TOKEN" in found.text
            assert TOKEN not in found.text
        assert client.get("/healthz").json() == {"status": "ready"}


def test_the_cookie_of_the_page_opens_no_endpoint(served: Running) -> None:
    with served.client() as client:
        del client.headers["authorization"]
        assert client.get("/", params={"token": TOKEN}).status_code == 303 and len(client.cookies) == 1
        assert client.get("/v1/models").status_code == 401


def test_other_sites_get_no_leave(served: Running) -> None:
    with served.client(origin="https://evil.example") as client:
        for answer in (
            client.options("/v1/chat/completions", headers={"access-control-request-method": "POST"}),
            client.get("/v1/models"),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert answer.headers["x-content-type-options"] == "nosniff"
    with served.client(host="evil.example") as client:
        found = client.get("/v1/models")
        assert found.status_code == 403 and "evil.example" in found.json()["error"]["message"]
        assert client.get("/healthz").status_code == 403


def test_what_is_not_offered_is_refused_in_openais_words(served: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="POST /v1/chat/completions"):
        client.embeddings.create(model="small", input="a")
    with served.client() as sender:
        for body, said in ((b"{", "no JSON"), (b"\xff", "no JSON"), (b"[" * 100_000, "nested too deeply")):
            found = sender.post("/v1/chat/completions", content=body)
            assert found.status_code == 400 and said in found.json()["error"]["message"]
        assert sender.get("/v1/chat/completions").status_code == 404


def test_a_body_that_is_too_large_is_cut_while_it_comes(served: Running) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(40):
            sent += 100_000
            yield bytes(100_000)

    with served.client() as client:
        found = client.post("/v1/chat/completions", content=endless())
        assert found.status_code == 413 and "3,000,000 bytes" in found.json()["error"]["message"]
        assert sent == 4_000_000, "a client that sends first and reads later hears the answer"
        declared = client.post("/v1/chat/completions", content=bytes(5_000_000))
        assert declared.status_code == 413 and declared.json()["error"]["code"] == "request_too_large"
    url = "data:image/png;base64," + "A" * 134_000_000
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as client:
        parts: Any = [{"type": "image_url", "image_url": {"url": url}}]
        # So much is not even read to the end: the connection may break before the answer is read.
        with pytest.raises((openai.APIStatusError, openai.APIConnectionError)):
            client.chat.completions.create(model="small", messages=[{"role": "user", "content": parts}])
        assert client.models.list().data, "and the server goes on"


def test_a_body_that_stops_coming_is_given_up(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.serving.bodies.SILENCE_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sender:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nAuthorization: Bearer {TOKEN}"
        sender.sendall(f"{head}\r\nContent-Length: 100\r\n\r\nslow".encode())
        assert b" 408 " in sender.recv(4096)


def test_more_than_the_limit_at_once_is_told_to_come_later(served: Running, client: openai.OpenAI) -> None:
    assert LIMITS.at_once == 2
    slow = [
        threading.Thread(target=client.chat.completions.create, kwargs={"model": "small", "messages": ask("slowly")})
        for _ in range(2)
    ]
    for each in slow:
        each.start()
    wait_for("both places to be taken", lambda: served.relay._busy == 2, 10)
    with pytest.raises(openai.RateLimitError, match="ask again in a moment") as refused:
        client.chat.completions.create(model="small", messages=ask("hello"))
    assert refused.value.response.headers["retry-after"] == "2"
    for each in slow:
        each.join()
    assert client.chat.completions.create(model="small", messages=ask("hello")).choices


def test_a_body_that_is_still_coming_holds_a_place(served: Running) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nAuthorization: Bearer {TOKEN}"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sender:
        sender.sendall(f"{head}\r\nContent-Length: 100\r\n\r\nslow".encode())
        wait_for("the place to be taken", lambda: served.relay._busy == 1, 10)
    wait_for("the place to be free", lambda: served.relay._busy == 0, 10)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_answer_gives_its_place_back(served: Running, stream: bool) -> None:
    body = json.dumps({"messages": ask("never"), "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nAuthorization: Bearer {TOKEN}"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sender:
        sender.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_for("the place to be taken", lambda: served.relay._busy == 1, 10)
    wait_for("the place to be free", lambda: served.relay._busy == 0, 10)


def test_what_the_engine_says_of_itself_stays_here(
    served: Running, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(openai.InternalServerError) as early:
        client.chat.completions.create(model="small", messages=ask("fail"))
    assert early.value.status_code == 502
    with pytest.raises(openai.APIError) as late:
        list(client.chat.completions.create(model="small", messages=ask("fail late"), stream=True))
    for error in (early.value, late.value):
        assert "failed on this request" in str(error) and "secret" not in str(error)
    assert caplog.text.count("/secret/path") == 2, "whoever runs the server reads it"
    wait_for("the places to be free", lambda: served.relay._busy == 0, 10)


def test_an_engine_that_dies_is_started_again(model: ServedModel, place: Path) -> None:
    with running(model, place) as found:
        client = openai.OpenAI(base_url=f"{found.url}/v1", api_key=TOKEN, max_retries=0)
        with pytest.raises(openai.InternalServerError, match="being started") as gone:
            client.chat.completions.create(model="small", messages=ask("die"))
        assert gone.value.status_code == 503 and gone.value.response.headers["retry-after"] == "5"
        wait_for("a new engine", lambda: len(found.process.deaths) == 1 and asyncio.run(found.process.answers()), 20)
        wait_for("it to be ready", lambda: found.client().get("/healthz").status_code == 200, 20)
        assert client.chat.completions.create(model="small", messages=ask("hello")).choices
        with pytest.raises(openai.APIError, match="being started"):
            list(client.chat.completions.create(model="small", messages=ask("die late"), stream=True))
        client.close()
