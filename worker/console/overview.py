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

LATEST = 8
router = APIRouter()


@router.get("/")
def show_overview(session: Visitor, console: TheConsole, done: str = "") -> Response:
    """Whole without scripts: the figures are those of this moment."""
    may_read = session.key.may(Scope.READ)
    values: dict[str, Any] = {"here": "overview", "notice": notice(done), "latest": (), "unsure": ()}
    if may_read:
        desk, owner = console.api.desk, shown_to(session.key)
        values["latest"] = desk.page(owner, limit=LATEST).reports
        unsure = desk.page(owner, verdict="uncertain", limit=LATEST).reports
        values["unsure"] = tuple(report for report in unsure if report.decided_by == "model")
    return console.pages.page("overview.html", session, values | _figures(console.look(()), session))


@router.get("/live")
async def live(session: Watcher, console: TheConsole) -> EventSourceResponse:
    def draw(look: Look) -> tuple[str, str]:
        return "update", console.pages.text("parts/queue.html", session, _figures(look, session))

    return streamed(console.board, session, draw)


def _figures(look: Look, session: Session) -> dict[str, Any]:
    """Everybody sees how much waits; names of machines and owners are the operators'."""
    mine = look.queue.open_scans.get(session.key.owner, 0) if look.queue else 0
    return {"queue": look.queue, "mine": mine, "is_operator": session.key.may(Scope.ADMIN)}
