"""Errors as RFC 9457 problem details: every answer that is not a success, also the framework's own, has this form.

``code`` is the error's own (``worker.errors``) or one of those below; ``instance`` is the request's id, which the log holds too.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from worker.errors import (
    BadRequest,
    Conflict,
    EmptyMedia,
    FetchError,
    Forbidden,
    MediaTooLarge,
    NoSuchScan,
    QueueFull,
    RedisDown,
    StorageError,
    Unauthorized,
    VeriframeError,
)
from worker.queue.connection import translated

MEDIA_TYPE = "application/problem+json"
MAX_DETAIL = 1000
RETRY_REDIS_S = 5
STATUS: tuple[tuple[type[VeriframeError], int, str], ...] = (
    (BadRequest, 422, "The request is not valid"),
    (Conflict, 409, "The request contradicts what is there"),
    (Unauthorized, 401, "An API key is needed"),
    (Forbidden, 403, "The API key does not allow this"),
    (NoSuchScan, 404, "There is no such scan"),
    (QueueFull, 429, "Too much at once"),
    (RedisDown, 503, "The service cannot answer now"),
    (StorageError, 503, "The service cannot keep this now"),
    (FetchError, 422, "This source cannot be used"),
    (MediaTooLarge, 413, "The body is too large"),
    (EmptyMedia, 422, "The body is empty"),
)
"""What errors are answered with; whatever is not here is a fault of the service, and its message stays in the log."""
FRAMEWORK = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    411: "length_required",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    501: "not_configured",
}


class Problem(BaseModel):
    """Problem details (RFC 9457) with a stable ``code``."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="urn:veriframe:problem: and the code")
    title: str
    status: int
    detail: str = Field(description="what to mend; never repeats a URL or a secret")
    code: str = Field(description="stable; one of the error codes of the service")
    instance: str = Field(description="the request's id, as in the header X-Request-Id")


class HttpError(HTTPException):
    """An answer that only HTTP knows, of those in ``FRAMEWORK``."""


def answer(
    request_id: str, status: int, code: str, title: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    problem = problem_of(request_id, status, code, title, detail)
    return JSONResponse(problem.model_dump(), status, dict(headers or {}), MEDIA_TYPE)


def problem_of(request_id: str, status: int, code: str, title: str, detail: str) -> Problem:
    return Problem(
        type=f"urn:veriframe:problem:{code}",
        title=title,
        status=status,
        detail=detail[:MAX_DETAIL],
        code=code,
        instance=request_id,
    )


def internal(request_id: str) -> JSONResponse:
    return answer(request_id, 500, "internal", "The service failed", "The fault is the service's; its log says more.")


def of_error(request_id: str, error: VeriframeError) -> JSONResponse | None:
    """None: a fault of the service itself."""
    told = told_of(request_id, error)
    return None if told is None else JSONResponse(told[0].model_dump(), told[0].status, told[1], MEDIA_TYPE)


def told_of(request_id: str, error: VeriframeError) -> tuple[Problem, dict[str, str]] | None:
    """What to say of an error, and the headers that go with it; None: a fault of the service itself."""
    found = next(((status, title) for kind, status, title in STATUS if isinstance(error, kind)), None)
    if found is None:
        return None
    status, title = found
    detail, headers = str(error), dict[str, str]()
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, QueueFull):
        headers["Retry-After"] = str(max(1, error.retry_after_s))
    elif status == 503:
        headers["Retry-After"] = str(RETRY_REDIS_S)
        detail = "Come again in a few seconds."
    elif status == 413:
        headers["Connection"] = "close"
    return problem_of(request_id, status, error.code, title, detail), headers


def handle_errors(app: FastAPI) -> None:
    """Translate errors of ours, of Redis's and of the framework's; all others reach the outermost middleware."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        answered = of_error(request.state.request_id, error) if isinstance(error, VeriframeError) else None
        if answered is None:
            raise error
        return answered

    async def of_redis(request: Request, error: Exception) -> JSONResponse:
        try:
            with translated():
                raise error
        except VeriframeError as exc:
            return await ours(request, exc)

    async def of_framework(request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException):
            raise error
        status = error.status_code
        detail = error.detail if isinstance(error, HttpError) else HTTPStatus(status).description or HTTPStatus(status).phrase
        code = FRAMEWORK.get(status, "bad_request")
        headers = dict(error.headers or {})
        if status == 405:
            headers["Allow"] = ", ".join(_methods(request))
        return answer(request.state.request_id, status, code, HTTPStatus(status).phrase, detail, headers)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, RequestValidationError):
            raise error
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:8])
        return answer(request.state.request_id, 422, BadRequest.code, "The request is not valid", found)

    async def gone(request: Request, error: Exception) -> JSONResponse:
        return answer(request.state.request_id, 400, "bad_request", "The caller went away", "The body ended too early.")

    app.add_exception_handler(VeriframeError, ours)
    app.add_exception_handler(RedisError, of_redis)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)


def _methods(request: Request) -> list[str]:
    """What the path takes; Starlette names the methods of the first route that matches, and one path may have several."""
    path = getattr(request.scope.get("route"), "path", "")
    return sorted(method.upper() for method in request.app.openapi()["paths"].get(path, {}))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: these problems may be answered; 401, 403, 422, 429, 500 and 503 always."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({401, 403, 422, 429, 500, 503, *statuses})
    }
