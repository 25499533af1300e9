"""Dead letters: scans and callbacks that were given up, and their replay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import RedirectResponse

from worker.api.parts import shown_to
from worker.console.door import OwnForm, Reader, Submitter
from worker.console.notices import notice
from worker.console.parts import TheConsole
from worker.errors import BadRequest
from worker.queue import callbacks
from worker.queue.backlog import read_backlog
from worker.queue.bulk import Bulk, Redone
from worker.queue.doorbell import is_id
from worker.queue.requests import ID

router = APIRouter()
AT_ONCE = 50
MOST = 2000
"""Replayed by one click; so that it is answered in seconds."""
LOOKED_AT = 20_000
"""Dead letters of everybody's looked at for one click, the latest; for the same reason."""


@router.get("/dead")
def show_dead(
    session: Reader,
    console: TheConsole,
    cursor: Annotated[str | None, Query(pattern=rf"^[0-9]{{1,15}}-{ID}$")] = None,
    done: str = "",
) -> Response:
    page = console.api.desk.page(shown_to(session.key), dead=True, cursor=cursor, limit=AT_ONCE)
    bulk = Bulk(desk=console.api.desk, owner=shown_to(session.key))
    values = {
        "here": "dead",
        "notice": notice(done),
        "reports": page.reports,
        "replays": bulk.replays([report.id for report in page.reports]),
        "older": f"/console/dead?cursor={page.cursor}" if page.cursor else None,
        "newest": "/console/dead" if cursor else None,
        "callbacks": console.callbacks.dead(AT_ONCE, owner=shown_to(session.key)),
    }
    return console.pages.page("dead.html", session, values)


@router.post("/dead/scans")
def replay_scans(session: Submitter, form: OwnForm, console: TheConsole) -> Response:
    """Each as a new scan, once: one that was replayed before is left as it is."""
    bulk = Bulk(desk=console.api.desk, owner=shown_to(session.key), quotas=console.api.quotas)
    if form.get("which") == "all":
        what, made = replayed(bulk.replay_dead(among=LOOKED_AT))
        if what == "replayed" and made < MOST and read_backlog(console.api.desk.records).dead > LOOKED_AT:
            return _told("latest", made, none="unseen")
        return _told(what, made)
    ids = list(dict.fromkeys(form.all("scan")))
    if not all(is_id(scan_id) for scan_id in ids):
        raise BadRequest("scan: not an id of a scan")
    return _told(*replayed(bulk.replay(ids)))


@router.post("/dead/callbacks")
def replay_callbacks(session: Submitter, form: OwnForm, console: TheConsole) -> Response:
    """Sent again from the first try on, under the same event id."""
    owner = shown_to(session.key)
    if form.get("which") == "all":
        many = console.callbacks.given_up() > callbacks.LOOKED_AT
        sent = console.callbacks.replay_latest(owner=owner)
        return _told("latestsent", sent, none="unsent") if many else _told("sent", sent)
    return _told("sent", console.callbacks.replay_some(form.all("callback"), owner=owner))


def replayed(redone: Iterable[Redone], *, most: int = MOST) -> tuple[str, int]:
    """How many new scans came of it, at most so many, and how that is told; those that were replayed before are passed over,
    however many they are.

    Raises QueueFull where none came of it because the queue, or the owner's day, takes no more.
    """
    made, refusal = 0, None
    for one in redone:
        made += one.new.created
        refusal = one.new.refusal or refusal
        if made == most:
            break
    if refusal is not None and not made:
        raise refusal
    return "replayed" if refusal is None else "partly", made


def _told(what: str, count: int, *, none: str = "nothing") -> Response:
    return RedirectResponse(f"/console/dead?done={f'{what}-{count}' if count else none}", 303)
