"""``/v1/scans/{id}/page``: a scan as a page for people, with the pictures that are retained."""

from __future__ import annotations

import re

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from worker.api.parts import Reader, TheParts, shown_to
from worker.api.problems import documented
from worker.api.scans import ARTIFACT, ScanId
from worker.artifacts import ArtifactStore
from worker.errors import FetchGone
from worker.pages.page import report_page
from worker.pages.render import content_policy
from worker.queue.desk import as_stored
from worker.queue.fetching import artifact_key

router = APIRouter(tags=["scans"])
MOST_PICTURE_BYTES = 1 << 20


@router.get(
    "/v1/scans/{scan_id}/page",
    response_class=HTMLResponse,
    responses={200: {"description": "The page, with its own Content-Security-Policy"}, **documented(404, 409)},
)
def show_page(key: Reader, scan_id: ScanId, parts: TheParts) -> HTMLResponse:
    """The report as one HTML page without scripts, in whatever state the scan is: verdict, timeline, moments with the pictures
    that are retained, limits. It asks for nothing from any network, so that it can be saved and sent on."""
    record = parts.desk.record(scan_id, shown_to(key))
    report = parts.desk.report_of(record)
    model_said = as_stored(record).verdict if report.decided_by == "human" else None
    html = report_page(report, lambda name: kept_picture(parts.artifacts, scan_id, name), model_said=model_said)
    return HTMLResponse(
        html.encode("utf-8", "xmlcharrefreplace"),
        headers={"Content-Security-Policy": f"{content_policy()}; frame-ancestors 'none'"},
    )


def kept_picture(store: ArtifactStore, scan_id: str, name: str) -> bytes | None:
    """A picture that a report names; None where it is not retained, or no picture of ours. Raises StorageDown."""
    if not re.fullmatch(ARTIFACT, name):
        return None
    try:
        with store.open(artifact_key(scan_id, name)) as file:
            data = file.read(MOST_PICTURE_BYTES + 1)
    except FetchGone:
        return None
    return data if len(data) <= MOST_PICTURE_BYTES else None
