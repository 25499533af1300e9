"""What a scan's page shows of its media: evidence crops, and the media themselves where they are retained."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from worker.api.media import IfNoneMatch, IfRange, RangeHeader, media_response
from worker.api.pages import show_page
from worker.api.parts import shown_to
from worker.api.scans import ARTIFACT, show_artifact
from worker.console.door import Reader, Watcher
from worker.console.parts import TheConsole
from worker.console.scans import ScanId

router = APIRouter()


@router.get("/scans/{scan_id}/crops/{name}")
def show_crop(session: Watcher, console: TheConsole, scan_id: ScanId, name: Annotated[str, Path(pattern=ARTIFACT)]) -> Response:
    return show_artifact(session.key, scan_id, name, console.api)


@router.get("/scans/{scan_id}/media")
def show_media(
    session: Watcher,
    console: TheConsole,
    scan_id: ScanId,
    wanted: RangeHeader = None,
    if_range: IfRange = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """For the page's ``video`` and ``img``; opened by itself it is saved, and runs nothing."""
    report = console.api.desk.report(scan_id, shown_to(session.key))
    return media_response(console.api.artifacts, report, wanted, if_range, if_none_match)


@router.get("/scans/{scan_id}/page")
def show_report_page(session: Reader, console: TheConsole, scan_id: ScanId) -> Response:
    """The report as one page that prints and can be saved; it has a Content-Security-Policy of its own."""
    return show_page(session.key, scan_id, console.api)


@router.get("/scans/{scan_id}/report.json")
def show_report(session: Reader, console: TheConsole, scan_id: ScanId) -> Response:
    """The report as the API gives it."""
    report = console.api.desk.report(scan_id, shown_to(session.key))
    name = f'attachment; filename="{scan_id}.json"'
    return Response(report.model_dump_json(indent=2), media_type="application/json", headers={"Content-Disposition": name})
