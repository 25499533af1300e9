"""A human's word on a scan, and all such words as a training manifest."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import Field, StringConstraints, ValidationError

from worker.api.parts import Reviewer, TheParts, json_body, shown_to
from worker.api.problems import documented
from worker.api.scans import ScanId
from worker.errors import BadRequest
from worker.queue.desk import Decision
from worker.queue.feedback import COLUMNS, latest_decisions, manifest_row
from worker.queue.requests import Payload, explained
from worker.report import Report

router = APIRouter(tags=["feedback"])


class Feedback(Payload):
    """What a human saw. It goes over every result for the same bytes, or the same part of them, and is kept in the audit log."""

    label: Literal["real", "fake"]
    category: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] | None = Field(
        default=None, description="free; blend, manipulation and synthetic become the family of a fake in the manifest"
    )
    note: Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")] | None = None


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Feedback"},
                "example": {"label": "real", "category": "compression", "note": "the uploader's own camera roll"},
            }
        },
    }
}


async def _feedback(body: Annotated[bytes, Depends(json_body)]) -> Feedback:
    try:
        return Feedback.model_validate_json(body)
    except (ValidationError, RecursionError) as exc:
        raise BadRequest(explained(exc)) from exc


@router.post("/v1/scans/{scan_id}/feedback", openapi_extra=BODY, responses=documented(400, 404, 408, 409, 413, 415))
def give_feedback(key: Reviewer, scan_id: ScanId, feedback: Annotated[Feedback, Depends(_feedback)], parts: TheParts) -> Report:
    """Label what was scanned. Its reports say `decided_by: human` from now on, also re-posts'; the model's word stays stored."""
    decision = Decision(verdict=feedback.label, by=f"key:{key.id}", category=feedback.category, note=feedback.note)
    with parts.quotas.decision(key.owner):
        return parts.desk.decide(scan_id, shown_to(key), decision)


@router.get(
    "/v1/feedback",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **documented()},
)
def feedback_manifest(key: Reviewer, parts: TheParts) -> Response:
    """The latest label of each content, as a training manifest (CSV). Media are not in it: put them at `path`, beside it. Labels
    of scans of a part (`start_s`, `end_s`) say nothing of the whole file and are left out."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    decisions, _ = latest_decisions(parts.desk, shown_to(key))
    writer.writerows(manifest_row(entry) for entry in decisions)
    name = 'attachment; filename="feedback.csv"'
    return Response(text.getvalue(), media_type="text/csv", headers={"Content-Disposition": name})
