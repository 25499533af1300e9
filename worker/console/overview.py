"""The first page: the queue and its workers, live, and the latest scans."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from sse_starlette import EventSourceResponse

from worker.api.parts import shown_to
from worker.console.door import Visitor, Watcher
from worker.console.look import Look
from worker.console.notices import notice
from worker.console.parts import TheConsole
from worker.console.sessions import Session
from worker.console.stream import streamed
from worker.queue.access import Scope
from worker.types import Label

LATEST = 8
LOOKED_AT = 40
"""Of the latest scans; a first page does not search the whole list."""
router = APIRouter()


@router.get("/")
def show_overview(session: Visitor, console: TheConsole, done: str = "") -> Response:
    """Whole without scripts: the figures are those of this moment."""
    may_read = session.key.may(Scope.READ)
    values: dict[str, Any] = {"here": "overview", "notice": notice(done), "latest": (), "unsure": ()}
    if may_read:
        found = console.api.desk.page(shown_to(session.key), limit=LOOKED_AT).reports
        values["latest"] = found[:LATEST]
        values["unsure"] = tuple(report for report in found if report.verdict is Label.UNCERTAIN)[:LATEST]
    return console.pages.page("overview.html", session, values | _figures(console.look(()), session))


@router.get("/live")
async def live(session: Watcher, console: TheConsole) -> EventSourceResponse:
    def draw(look: Look) -> tuple[str, str]:
        return "update", console.pages.text("parts/queue.html", session, _figures(look, session))

    return streamed(console.board, session, draw)


def _figures(look: Look, session: Session) -> dict[str, Any]:
    """Everybody sees how much waits; names of machines and owners are the operators'."""
    mine = look.queue.backlog.open_scans.get(session.key.owner, 0) if look.queue else 0
    return {"queue": look.queue, "mine": mine, "is_operator": session.key.may(Scope.ADMIN)}
