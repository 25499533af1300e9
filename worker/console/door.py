"""Who may come in: the session behind the cookie, what its key allows, and that a form came from a page of ours."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from worker.api.parts import in_time
from worker.api.problems import HttpError
from worker.console.parts import TheConsole
from worker.console.sessions import Session, checked_cookie
from worker.errors import BadRequest, Forbidden
from worker.queue.access import Scope

MAX_FIELDS = 300
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a form sent; fields left empty count as not given."""

    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        return next((value for given, value in self.fields if given == name and value), None)

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(value for given, value in self.fields if given == name and value)


def signed_in(request: Request, console: TheConsole) -> Session:
    """Raises Unauthorized. Images and streams of a page count for nothing; the page itself counts as one request."""
    cookie = checked_cookie(request.cookies.get(console.cookie))
    with console.api.silence.asked():
        session = console.sessions.find(cookie)
    request.state.session = session
    return session


def visitor(session: Annotated[Session, Depends(signed_in)], console: TheConsole) -> Session:
    """Counts the request against its owner's minute. Raises Unauthorized, QueueFull."""
    with console.api.silence.asked():
        console.api.quotas.request(session.key.owner)
    return session


def _with(scope: Scope) -> Callable[[Session], Awaitable[Session]]:
    async def allowed(session: Annotated[Session, Depends(visitor)]) -> Session:
        session.key.require(scope)
        return session

    return allowed


async def _watching(session: Annotated[Session, Depends(signed_in)]) -> Session:
    session.key.require(Scope.READ)
    return session


Visitor = Annotated[Session, Depends(visitor)]
Reader = Annotated[Session, Depends(_with(Scope.READ))]
Submitter = Annotated[Session, Depends(_with(Scope.SCAN))]
Reviewer = Annotated[Session, Depends(_with(Scope.FEEDBACK))]
Watcher = Annotated[Session, Depends(_watching)]
"""Reads what belongs to a page: crops, media, live figures."""


def refuse_strangers(request: Request) -> None:
    """A form from another site's page is refused before it is read. Raises Forbidden.

    Browsers say where a request comes from in ``Sec-Fetch-Site`` (to https and to this machine) and in ``Origin``; neither can be
    set by a page. A client that sends neither is no browser, and knows the form's token or does not.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if not is_ours:
        raise Forbidden("this form was sent by another site's page")


def check_token(session: Session, given: str | None) -> None:
    """Raises Forbidden."""
    if not hmac.compare_digest((given or "").encode(), session.form_token.encode()):
        raise Forbidden("this form is not of your session: load the page again")


async def _form(request: Request) -> Form:
    """Raises Forbidden, BadRequest, HttpError (408, 415)."""
    refuse_strangers(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HttpError(415, f"this form is sent as {FORM}")
    body = await in_time(request.body())
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as exc:
        raise BadRequest("the form cannot be read") from exc
    return Form(fields=tuple((name, value.replace("\r\n", "\n")) for name, value in fields))


AnyForm = Annotated[Form, Depends(_form)]


async def _own_form(form: AnyForm, session: Annotated[Session, Depends(signed_in)]) -> Form:
    check_token(session, form.get("token"))
    return form


OwnForm = Annotated[Form, Depends(_own_form)]
"""A form of the session's own; its token has been checked."""
