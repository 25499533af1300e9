"""What surrounds every request, as plain ASGI: its id, security headers, one line of log, the last catch, a cap on bodies, and
the rest of a refused one."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.api import problems
from worker.api.metrics import Metrics
from worker.errors import MediaTooLarge
from worker.telemetry.context import about

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}", re.ASCII)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
SHOWN = 120

LINGER_BYTES, LINGER_S = 1 << 20, 2.0
"""So much of a body that nobody wants is read before its connection is closed."""


class Boundary:
    """The outermost layer. An error that nothing has answered is logged here, and the caller learns the request's id alone.

    A caller's own ``X-Request-Id`` is kept where it looks like one.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        status: int | None = None
        took_s: float | None = None

        async def decorated(message: Message) -> None:
            nonlocal status, took_s
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/event-stream"):
                    took_s = time.perf_counter() - began  # a stream lasts as long as its reader likes: to its first byte
                headers["X-Request-Id"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        began = time.perf_counter()
        with about(request_id=request_id):
            try:
                await self._app(scope, receive, decorated)
            except Exception:
                log.exception("request %s failed", request_id)
                if status is None:
                    await problems.internal(request_id)(scope, receive, decorated)
            finally:
                took_s = took_s or time.perf_counter() - began
                self._metrics.answered(scope["method"], _template(scope), status or 499, took_s)
                _log_request(scope, status or 499, took_s)


class BodyCap:
    """No body beyond its limit is read, whether its length was told (refused at once) or not (cut off).

    ``exceptions``: other limits than ``max_bytes``, by path.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, exceptions: Mapping[str, int]) -> None:
        self._app, self._max_bytes, self._exceptions = app, max_bytes, exceptions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._exceptions.get(scope["path"], self._max_bytes)
        too_large = MediaTooLarge(f"a body may have {limit} bytes here")
        told = Headers(scope=scope).get("content-length", "0")
        if not (told.isascii() and told.isdigit()) or len(told) > 18 or int(told) > limit:
            refused = problems.of_error(scope["state"]["request_id"], too_large)
            if refused is not None:
                await refused(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_large
            return message

        await self._app(scope, counted, send)


class Linger:
    """Before a connection is closed over a body that was not read to its end, what comes of it within ``LINGER_S`` and
    ``LINGER_BYTES`` is read and thrown away. To close a socket that holds unread bytes resets the connection, and a caller still
    sending would then lose the answer (RFC 9112, section 9.6). The answer goes out first: nobody waits for this.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        unread, closing, held = True, False, False

        async def watched() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def holding(message: Message) -> None:
            nonlocal closing, held
            if message["type"] == "http.response.start":
                closing = Headers(raw=message.get("headers", [])).get("connection", "").lower() == "close"
            elif closing and unread and not message.get("more_body", False):
                held, message = True, {**message, "more_body": True}
            await send(message)

        await self._app(scope, watched, holding)
        if held:
            with anyio.move_on_after(LINGER_S):
                seen = 0
                while unread and seen < LINGER_BYTES:
                    seen += len((await watched()).get("body", b""))
            await send({"type": "http.response.body"})


def _log_request(scope: Scope, status: int, took_s: float) -> None:
    method, path, took_ms = scope["method"][:8], ascii(scope["path"][:SHOWN]), round(1e3 * took_s, 1)
    told = {"method": method, "path": path.strip("'"), "status": status, "took_ms": took_ms}
    log.info("%s %s %s %.1f ms", method, path, status, took_ms, extra=told)


def _template(scope: Scope) -> str:
    """The route's path with the names of its parameters, that of a mounted application with where it is mounted; requests to no
    route are one."""
    path = getattr(scope.get("route"), "path", None)
    return "unmatched" if path is None else f"{scope.get('root_path', '')}{path}"
