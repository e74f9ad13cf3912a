"""The endpoint: /v1/models and /v1/chat/completions for who has the token, /health for everybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from doitune.chat.reply import Reply
from doitune.chat.serve.desk import Order
from doitune.chat.serve.documents import DONE, Completion, event, model, models
from doitune.chat.serve.refusal import FAILED, TOO_LARGE, UNKNOWN_KEY, Refusal
from doitune.chat.serve.request import read_question
from doitune.chat.serve.service import Service
from doitune.errors import DoituneError

MOST_BYTES = 16 << 20
"""Of a request's body."""

CLIENT_GONE = 499
"""What nginx logs of a client that hung up; nobody reads it."""


LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]", "[")
"""What a request may call this machine; releases of Starlette read `[::1]:8000` in three ways."""


def application(service: Service, *, local: bool = True) -> Starlette:
    """The ASGI application of a service. `local`: it listens on this machine alone, and a page whose name was
    pointed here afterwards is turned away."""
    endpoint = _Endpoint(service)
    allowed = Middleware(
        CORSMiddleware,
        allow_origins=list(service.origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
    )
    named = Middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL_HOSTS), www_redirect=False)
    return Starlette(
        routes=[
            Route("/health", endpoint.health),
            Route("/v1/models", endpoint.models),
            Route("/v1/models/{name:path}", endpoint.model),
            Route("/v1/chat/completions", endpoint.chat, methods=["POST"]),
        ],
        middleware=[*([named] if local else []), *([allowed] if service.origins else [])],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _no_such_place,
            Exception: endpoint.crashed,
        },
    )


class _Endpoint:
    def __init__(self, service: Service) -> None:
        self.service, self.since = service, int(time.time())

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        self.service.let_in(request.headers.get("authorization", ""))
        return JSONResponse(models(list(self.service.partners), self.since))

    async def model(self, request: Request) -> Response:
        self.service.let_in(request.headers.get("authorization", ""))
        name = request.path_params["name"]
        self.service.partner(name)
        return JSONResponse(model(name, self.since))

    async def chat(self, request: Request) -> Response:
        self.service.let_in(request.headers.get("authorization", ""))
        try:
            body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        question = read_question(body, self.service.style)
        order = self.service.order(question)
        completion = Completion(question.model, question.usage)
        if question.stream:
            pieces = self._events(order, completion)
            return StreamingResponse(pieces, media_type="text/event-stream", headers=_UNBUFFERED)
        reply = await _unless_gone(request, self._whole(order))
        return Response(status_code=CLIENT_GONE) if reply is None else JSONResponse(completion.whole(reply))

    async def _whole(self, order: Order) -> Reply:
        async with aclosing(self.service.desk.replies(order)) as replies:
            try:
                async for one in replies:
                    if isinstance(one, Reply):
                        return one
            except DoituneError as error:
                raise Refusal(FAILED, error.problem) from None
        raise AssertionError("a reply has an end")

    async def _events(self, order: Order, completion: Completion) -> AsyncIterator[bytes]:
        yield completion.begin()
        async with aclosing(self.service.desk.replies(order)) as replies:
            try:
                async for one in replies:
                    yield completion.end(one) if isinstance(one, Reply) else completion.piece(one)
            except DoituneError as error:
                yield event(Refusal(FAILED, error.problem).document()) + DONE

    async def crashed(self, request: Request, error: Exception) -> Response:
        self.service.on_crash(error)
        return JSONResponse(Refusal(FAILED, "a bug in doitune").document(), FAILED)


_UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise Refusal(TOO_LARGE, f"the body has more than {MOST_BYTES >> 20} MiB")
    return bytes(body)


async def _unless_gone(request: Request, work: Awaitable[Reply]) -> Reply | None:
    """What the work gives; None, and its end, where the client hangs up before."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    headers = {"www-authenticate": "Bearer"} if error.status == UNKNOWN_KEY else None
    return JSONResponse(error.document(), error.status, headers)


async def _no_such_place(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(Refusal(error.status_code, message).document(), error.status_code, error.headers)
