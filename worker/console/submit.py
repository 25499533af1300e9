"""Handing in an address or a file, by a form that needs no script; the file goes straight into the store."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from worker.api.parts import in_time
from worker.api.problems import HttpError, told_of
from worker.api.scans import submitted
from worker.console.door import Submitter, check_token, refuse_strangers
from worker.console.form import AROUND_BYTES, Field, FileBegins, Piece, file_bytes, read_form
from worker.console.notices import notice
from worker.console.parts import Console, TheConsole
from worker.console.sessions import Session
from worker.errors import BadRequest, Conflict, FetchError, MediaError, MediaTooLarge, QueueFull
from worker.output.text import escaped
from worker.queue.access import Scope
from worker.queue.record import Submitted
from worker.queue.requests import read_request

router = APIRouter()
PATH = "/console/submit"
MENDED_HERE = (BadRequest, FetchError, MediaError, QueueFull, Conflict)
"""What its sender can mend in the form, which is shown again with their words."""


@router.get("/submit")
def ask(session: Submitter, console: TheConsole, done: str = "") -> Response:
    return _asked(console, session, {"notice": notice(done)})


@router.post("/submit")
async def submit(request: Request, session: Submitter, console: TheConsole) -> Response:
    """The session's token comes before the file: what another site sends is not read to its end."""
    fields: dict[str, str] = {}
    try:
        upload = await _taken_in(request, session, console, fields)
        made = await anyio.to_thread.run_sync(_submitted, console, session, fields, upload)
    except MENDED_HERE as exc:
        told = told_of(request.state.request_id, exc)
        if told is None:
            raise
        problem, headers = told
        return _asked(console, session, {"complaint": problem.detail, "given": fields}, problem.status, headers)
    done = "submitted" if made.created else "known"
    if not session.key.may(Scope.READ):
        return RedirectResponse(f"{PATH}?done={done}", 303)
    return RedirectResponse(f"/console/scans/{made.id}?done={done}", 303)


async def _taken_in(request: Request, session: Session, console: Console, fields: dict[str, str]) -> str | None:
    """The id of the upload, if there was a file; ``fields`` holds what else was sent.

    Raises Forbidden, BadRequest, MediaTooLarge, QueueFull, StorageError, HttpError (408, 415, 501).
    """
    refuse_strangers(request)
    most = console.max_upload_bytes + AROUND_BYTES
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most:
        raise MediaTooLarge(f"a file may have {console.max_upload_bytes} bytes here")
    pieces = read_form(request.headers.get("content-type", ""), request.stream(), max_bytes=most)
    begun = await in_time(_fields(pieces, fields))
    check_token(session, fields.get("token"))
    upload = None
    if begun is not None and begun.filename:
        fields["filename"] = begun.filename
        if fields.get("url"):
            raise BadRequest("give an address or a file, not both")
        if console.api.intake is None:
            raise HttpError(501, "files are not kept here: artifacts.url is not set")
        upload, _ = await console.api.intake.take(session.key.owner, file_bytes(pieces))
    while begun is not None:
        begun = await in_time(_fields(pieces, fields))
    return upload


async def _fields(pieces: AsyncIterator[Piece], fields: dict[str, str]) -> FileBegins | None:
    """Take fields in up to where a file begins; None: the form has ended."""
    async for piece in pieces:
        if isinstance(piece, FileBegins):
            return piece
        if isinstance(piece, Field):
            fields.setdefault(piece.name, piece.value)
    return None


def _submitted(console: Console, session: Session, fields: dict[str, str], upload: str | None) -> Submitted:
    """Raises BadRequest, FetchError, QueueFull, Conflict."""
    given = {name: value.strip() for name, value in fields.items() if value.strip()}
    wanted: dict[str, Any] = {"source": {"upload": upload}, "priority": given.get("priority", "live")}
    if upload is None:
        if "url" not in given:
            raise BadRequest("give an address or a file")
        # The same form sent twice is one scan; with a file, the second upload is another one.
        wanted |= {"source": {"url": given["url"]}, "idempotency_key": given.get("once")}
    if given.get("watch"):
        wanted["kind"] = "watch"
    elif given.get("exhaustive"):
        wanted["options"] = {"exhaustive": True}
    if name := given.get("external_id") or (_name(given["filename"]) if upload else ""):
        wanted["external_id"] = name
    request = read_request({name: value for name, value in wanted.items() if value is not None})
    return submitted(console.api, session.key, request)


def _name(filename: str) -> str:
    """A file's name as an id that a reviewer recognises."""
    return escaped(filename.replace("\\", "/").rpartition("/")[2])[:255]


def _asked(
    console: Console, session: Session, values: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    page: dict[str, Any] = {
        "here": "submit",
        "notice": None,
        "complaint": None,
        "given": {},
        "once": secrets.token_urlsafe(16),
        "takes_files": console.api.intake is not None,
        "max_upload_bytes": console.max_upload_bytes,
    }
    return console.pages.page("submit.html", session, page | values, status=status, headers=headers)
