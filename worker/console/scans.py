"""The list of scans, with filters, and one scan with all that is known of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sse_starlette import EventSourceResponse

from worker.api.parts import shown_to
from worker.console.door import Reader, Watcher
from worker.console.look import Look
from worker.console.notices import notice
from worker.console.parts import TheConsole
from worker.console.scan_page import facts_of
from worker.console.stream import streamed
from worker.queue.requests import ID
from worker.report import Status

router = APIRouter()
AT_ONCE = 50
ScanId = Annotated[str, Path(pattern=rf"^{ID}$")]
LAST_ID = "f" * 32
"""No scan of the same millisecond lies behind it in a list."""


def _given(value: object) -> object:
    """A field that a form sends empty is not given."""
    return None if value == "" else value


class Filters(BaseModel):
    """As the form of the list sends them. ``before``: a day; scans of later days are left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Annotated[Status | None, BeforeValidator(_given)] = None
    verdict: Annotated[Literal["fake", "real", "uncertain", "not_applicable"] | None, BeforeValidator(_given)] = None
    external_id: Annotated[str | None, BeforeValidator(_given)] = Field(default=None, max_length=255)
    before: Annotated[str | None, BeforeValidator(_given)] = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    dead: Annotated[Literal["true"] | None, BeforeValidator(_given)] = None
    cursor: Annotated[str | None, BeforeValidator(_given)] = Field(default=None, pattern=rf"^[0-9]{{1,15}}-{ID}$")
    done: Annotated[str | None, BeforeValidator(_given)] = Field(default=None, max_length=32)

    @property
    def start(self) -> str | None:
        """Where in the list the page begins; a day that is none begins nowhere."""
        if self.cursor is not None or self.before is None:
            return self.cursor
        try:
            day = datetime.strptime(self.before, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            return None
        return f"{max(0, int(day.timestamp() * 1000) + 86_400_000 - 1)}-{LAST_ID}"

    def query(self, **more: str) -> str:
        """These filters in an address, from the first page on."""
        kept = self.model_dump(exclude={"cursor", "done"}, exclude_none=True)
        return urlencode({**kept, **more})


@router.get("/scans")
def list_scans(session: Reader, console: TheConsole, filters: Annotated[Filters, Query()]) -> Response:
    page = console.api.desk.page(
        shown_to(session.key),
        status=filters.status,
        verdict=filters.verdict,
        external_id=filters.external_id,
        dead=True if filters.dead else None,
        cursor=filters.start,
        limit=AT_ONCE,
    )
    values = {
        "here": "scans",
        "notice": notice(filters.done),
        "filters": filters,
        "reports": page.reports,
        "newest": f"/console/scans?{filters.query()}" if filters.cursor else None,
        "older": f"/console/scans?{filters.query(cursor=page.cursor)}" if page.cursor else None,
    }
    return console.pages.page("scans.html", session, values)


@router.get("/scans/{scan_id}")
def show_scan(session: Reader, console: TheConsole, scan_id: ScanId, t: str = "", done: str = "") -> Response:
    """``t``: where the video is to begin, in seconds; how a page without scripts goes to a moment."""
    record = console.api.desk.record(scan_id, shown_to(session.key))
    report = console.api.desk.report_of(record)
    values = {
        **facts_of(report, record, console.api, console.look.scan(record), shown_to(session.key)),
        "here": "scans",
        "notice": notice(done),
        "begin_s": float(t) if re.fullmatch(r"\d{1,6}(\.\d{1,3})?", t, re.ASCII) else None,
        "near": console.api.desk.near_duplicates(scan_id, shown_to(session.key)),
    }
    return console.pages.page("scan.html", session, values)


@router.get("/scans/{scan_id}/live")
async def live(session: Watcher, console: TheConsole, scan_id: ScanId) -> EventSourceResponse:
    """How far it is, until it ends."""
    await anyio.to_thread.run_sync(console.api.desk.record, scan_id, shown_to(session.key))

    def draw(look: Look) -> tuple[str, str] | None:
        scan = look.scans.get(scan_id)
        if scan is None:
            return None
        if scan.is_final:
            return "done", scan.state
        return "update", console.pages.text("parts/progress.html", session, {"going": scan})

    return streamed(console.board, session, draw, (scan_id,))
