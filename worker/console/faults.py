"""What goes wrong, as a page: the same words and codes as the API's problem details, and where to go on."""

from __future__ import annotations

import logging
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from worker.api.problems import FRAMEWORK, HttpError, Problem, problem_of, told_of
from worker.console.parts import ROOT, Console
from worker.console.sessions import Session
from worker.errors import BadRequest, Unauthorized, VeriframeError
from worker.queue.connection import translated

log = logging.getLogger(__name__)


def handle_errors(app: FastAPI) -> None:
    """All that may be raised on the way to an answer, the unforeseen too: a person reads it."""

    async def ours(request: Request, error: Exception) -> Response:
        told = told_of(request.state.request_id, error) if isinstance(error, VeriframeError) else None
        if told is None:
            raise error
        problem, headers = told
        if isinstance(error, Unauthorized):
            return _to_sign_in(request, problem)
        return _page(request, problem, headers)

    async def of_redis(request: Request, error: Exception) -> Response:
        try:
            with translated():
                raise error
        except VeriframeError as exc:
            return await ours(request, exc)

    async def of_framework(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        status = HTTPStatus(error.status_code)
        detail = error.detail if isinstance(error, HttpError) else status.description or status.phrase
        code = FRAMEWORK.get(status, "bad_request")
        return _page(
            request, problem_of(request.state.request_id, status, code, status.phrase, detail), dict(error.headers or {})
        )

    async def invalid(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        where = {str(item["loc"][0]) for item in error.errors()}
        if where == {"path"}:
            return await of_framework(request, HTTPException(404))
        found = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()[:8])
        return _page(request, problem_of(request.state.request_id, 422, BadRequest.code, "This address is not valid", found), {})

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)

    async def unforeseen(request: Request, error: Exception) -> Response:
        """Starlette raises the error again when this is sent: the outermost layer logs it, under the request's id."""
        told = "The fault is the service's; its log says more."
        return _page(request, problem_of(request.state.request_id, 500, "internal", "The service failed", told), {})

    app.add_exception_handler(VeriframeError, ours)
    app.add_exception_handler(RedisError, of_redis)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, unforeseen)


def _to_sign_in(request: Request, problem: Problem) -> Response:
    """A page sends its reader to sign in and comes back; a stream or a form says that the session is over."""
    if request.method in ("GET", "HEAD") and "text/event-stream" not in request.headers.get("accept", ""):
        below = request.url.path.removeprefix(ROOT).lstrip("/")
        target = f"{ROOT}/sign-in" + (f"?next={quote(below, safe='/')}" if below else "")
        if request.headers.get("hx-request"):
            return Response(status_code=401, headers={"HX-Redirect": target})
        return RedirectResponse(target, 303)
    return _page(request, problem.model_copy(update={"title": "Your session has ended"}), {})


def _page(request: Request, problem: Problem, headers: dict[str, str]) -> Response:
    """The links at the top are those of a session that was found before; a Redis that is away is not asked for it.

    A part of a page that was to be renewed in place (htmx) becomes this page, as a whole.
    """
    console: Console = request.app.state.console
    session: Session | None = getattr(request.state, "session", None)
    if request.method == "GET" and request.headers.get("hx-request"):
        headers = {**headers, "HX-Redirect": quote(request.url.path) + (f"?{request.url.query}" if request.url.query else "")}
    values = {"problem": problem, "notice": None, "here": ""}
    return console.pages.page("problem.html", session, values, status=problem.status, headers=headers)
