"""What the handlers work with, and who is calling: the dependencies of every route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import anyio
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from worker.api.intake import Intake
from worker.api.metrics import Metrics
from worker.api.problems import HttpError
from worker.api.silence import Silence
from worker.artifacts import ArtifactStore
from worker.errors import Unauthorized
from worker.queue.access import ApiKeys, KeyInfo, Scope, parts_of
from worker.queue.desk import Desk
from worker.queue.quotas import Quotas
from worker.queue.roster import Roster

T = TypeVar("T")
BODY_TIMEOUT_S = 30.0
"""A JSON body, and the fields of a form, must have come by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """``check_source`` and ``check_callback`` raise FetchError for an address that workers, or couriers, would not go to.

    ``intake`` None: nothing keeps uploads here."""

    desk: Desk
    keys: ApiKeys
    quotas: Quotas
    roster: Roster
    metrics: Metrics
    check_source: Callable[[str], None]
    check_callback: Callable[[str], None]
    intake: Intake | None
    artifacts: ArtifactStore
    takes_paths: bool
    silence: Silence = field(default_factory=Silence)


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


TheParts = Annotated[Parts, Depends(_parts)]
_bearer = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", bearerFormat="vf_ID_SECRET", description="An API key: `veriframe keys create`."
)


def caller(parts: TheParts, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> KeyInfo:
    """Whose key it is; counts the request against its owner's minute. Raises Unauthorized, QueueFull."""
    if credentials is None:
        raise Unauthorized("give an API key in the header Authorization: Bearer vf_...")
    parts_of(credentials.credentials)  # what is no token is refused though Redis be silent
    with parts.silence.asked():
        key = parts.keys.authenticate(credentials.credentials)
        parts.quotas.request(key.owner)
    return key


def _with(scope: Scope) -> Callable[[KeyInfo], KeyInfo]:
    def allowed(key: Annotated[KeyInfo, Depends(caller)]) -> KeyInfo:
        key.require(scope)
        return key

    return allowed


Submitter = Annotated[KeyInfo, Depends(_with(Scope.SCAN))]
Reader = Annotated[KeyInfo, Depends(_with(Scope.READ))]
Reviewer = Annotated[KeyInfo, Depends(_with(Scope.FEEDBACK))]


def shown_to(key: KeyInfo) -> str | None:
    """The owner whose scans exist for this caller; None: all do."""
    return None if key.may(Scope.ADMIN) else key.owner


async def json_body(request: Request) -> bytes:
    """The body of a JSON request as it came. Raises HttpError (408, 415), MediaTooLarge."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpError(415, "send JSON, with the header Content-Type: application/json")
    return await in_time(request.body())


async def in_time(coming: Awaitable[T]) -> T:
    """What comes within ``BODY_TIMEOUT_S``. Raises HttpError (408)."""
    try:
        with anyio.fail_after(BODY_TIMEOUT_S):
            return await coming
    except TimeoutError as exc:
        raise HttpError(408, "the body came too slowly", {"Connection": "close"}) from exc
