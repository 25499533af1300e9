"""What a person does to a scan: say what it is, cancel it, have it scanned again."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from worker.api.feedback import Feedback, give_feedback
from worker.api.parts import shown_to
from worker.api.scans import cancel_scan, counted
from worker.console.door import OwnForm, Reviewer, Submitter
from worker.console.parts import TheConsole
from worker.console.scans import ScanId
from worker.console.sessions import Session
from worker.errors import BadRequest
from worker.queue.access import Scope
from worker.queue.requests import explained

router = APIRouter()
CANCELLED = {"cancelled": "cancelled", "running": "cancelling", "queued": "cancelling"}
"""A watch that waits for its next slice stays queued until a worker has written its report."""


@router.post("/scans/{scan_id}/decision")
def decide(session: Reviewer, form: OwnForm, console: TheConsole, scan_id: ScanId) -> Response:
    """As the API's feedback: over every result for the same bytes, and into the audit log."""
    told = {name: value for name in ("label", "category", "note") if (value := form.get(name)) is not None}
    try:
        feedback = Feedback.model_validate(told)
    except ValidationError as exc:
        raise BadRequest(explained(exc)) from exc
    give_feedback(session.key, scan_id, feedback, console.api)
    return _back(session, scan_id, "decided")


@router.post("/scans/{scan_id}/cancel")
def cancel(session: Submitter, form: OwnForm, console: TheConsole, scan_id: ScanId) -> Response:
    status = cancel_scan(session.key, scan_id, console.api).status
    return _back(session, scan_id, CANCELLED.get(status, "ended"))


@router.post("/scans/{scan_id}/retry")
def retry(session: Submitter, form: OwnForm, console: TheConsole, scan_id: ScanId) -> Response:
    """The same request as a new scan, whose page is shown then."""
    parts = console.api
    owner = parts.desk.record(scan_id, shown_to(session.key)).owner
    made = counted(parts, owner, lambda: parts.desk.retry(scan_id, owner))
    return _back(session, made.id, "retried")


def _back(session: Session, scan_id: str, done: str) -> Response:
    """To the scan, or where the key may not read, to the first page."""
    below = f"scans/{scan_id}" if session.key.may(Scope.READ) else ""
    return RedirectResponse(f"/console/{below}?done={done}", 303)
