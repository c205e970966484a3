"""The server that clients see: OpenAI's routes, checked, in front of an engine that they never reach."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from stages.serving.doors import HEALTH
from stages.serving.engine_process import EngineState
from stages.serving.refusal import Refused
from stages.serving.relay import Piece, Relay, completion_id
from stages.serving.requests import ChatRequest, checked

Watch = Callable[[], Any]
Result = TypeVar("Result")


def gateway(relay: Relay, watch: Watch | None = None) -> FastAPI:
    """Return the application; `stages.serving.doors.Doors` belongs in front of it.

    Args:
        relay: The way to the engine.
        watch: A coroutine function that runs as long as the server does, such as the engine's watch.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(watch()) if watch else None
        yield
        if watching:
            watching.cancel()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _unknown)
    listed = {"id": relay.model.name, "object": "model", "created": 0, "owned_by": "internvl-pipeline"}

    @app.get(HEALTH)
    async def health() -> JSONResponse:
        state = relay.process.state if relay.process.alive else EngineState.STARTING
        return JSONResponse({"status": state}, 200 if state is EngineState.READY else 503)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [listed]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name != relay.model.name:
            raise Refused(404, f"there is no model {name[:80]!r} here; the one there is: {relay.model.name}")
        return listed

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await _chat(relay, request)

    @app.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
    async def other(rest: str) -> None:
        raise Refused(
            404, f"/v1/{rest[:60]} is not offered with this method; GET /v1/models and POST /v1/chat/completions are",
            code="unknown_url",
        )  # fmt: skip

    return app


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return JSONResponse(error.body, error.status, error.headers)


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    refused = Refused(error.status_code, f"{request.method} {request.url.path[:80]}: {error.detail}")
    return JSONResponse(refused.body, refused.status)


def parsed(raw: bytes) -> Any:
    """Return a body's JSON.

    Raises:
        Refused: It is none.
    """
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else "broken, or not in UTF-8"
        raise Refused(400, f"the body is no JSON: {said}; send a JSON object", code="invalid_json") from None


async def _chat(relay: Relay, request: Request) -> Response:
    """Answer a chat request; its first piece is waited for, so that what fails early has a status of its own."""
    async with AsyncExitStack() as held:
        # Before the body is read: no more of these are held than are answered.
        await held.enter_async_context(relay.turn())
        raw = await request.body()
        asked = await asyncio.to_thread(lambda: checked(parsed(raw), relay.model, relay.limits))
        pieces = relay.pieces(asked)
        held.push_async_callback(pieces.aclose)
        first = await _while_heard(request, anext(pieces))
        if asked.stream:
            return _Stream(_events(asked, relay.model.name, first, pieces), held.pop_all())
        return JSONResponse(await _while_heard(request, _whole(relay.model.name, first, pieces)))


async def _while_heard(request: Request, work: Awaitable[Result]) -> Result:
    """Return what a piece of work gives; give the work up when the client goes away before.

    Args:
        request: Its body has been read: the next message is the client's leaving.
        work: What the client waits for.

    Raises:
        Refused: The client went away, so nobody hears it.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refused(499, "the client went away before the answer", code="client_closed_request")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait((working, leaving))


class _Stream(StreamingResponse):
    """A stream that lets go of what it holds however it ends, also where nobody ever reads it."""

    def __init__(self, events: AsyncIterator[str], held: AsyncExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _whole(model: str, first: Piece, pieces: AsyncIterator[Piece]) -> dict[str, Any]:
    """Return an answer in one object."""
    found = [first, *[piece async for piece in pieces]]
    finish = next((piece.finish for piece in found if piece.finish), "stop")
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(piece.text for piece in found), "refusal": None},
        "logprobs": None,
        "finish_reason": finish,
    }
    usage = next((piece.usage for piece in found if piece.usage), None)
    return {
        "id": completion_id(), "object": "chat.completion", "created": int(time.time()), "model": model,
        "choices": [choice], "usage": usage,
    }  # fmt: skip


async def _events(asked: ChatRequest, model: str, first: Piece, pieces: AsyncIterator[Piece]) -> AsyncIterator[str]:
    """Yield an answer as server-sent events; what fails on the way is the last one but `[DONE]`."""
    head = {
        "id": completion_id(), "object": "chat.completion.chunk", "created": int(time.time()), "model": model,
    }  # fmt: skip

    def event(delta: dict[str, Any], finish: str | None = None) -> str:
        return _event({**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})

    usage = first.usage
    yield event({"role": "assistant", "content": first.text}, first.finish)
    try:
        async for piece in pieces:
            usage = piece.usage or usage
            if piece.text or piece.finish:
                yield event({"content": piece.text} if piece.text else {}, piece.finish)
    except Refused as refused:
        yield _event(refused.body)
    else:
        if asked.include_usage:
            yield _event({**head, "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
