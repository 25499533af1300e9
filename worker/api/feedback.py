"""A human's word on a scan, and all such words as a training manifest."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Response
from pydantic import Field, StringConstraints, ValidationError

from worker.api.parts import Reviewer, TheParts, json_body, shown_to
from worker.api.problems import documented
from worker.api.scans import ScanId
from worker.errors import BadRequest
from worker.queue.desk import Decision, Desk
from worker.queue.requests import Payload, explained
from worker.report import Report

router = APIRouter(tags=["feedback"])
COLUMNS = ("path", "label", "source", "group", "family", "scan", "sha256", "url", "category")
"""The first five are those of a training manifest; its reader passes the others over."""
FAMILIES = frozenset({"blend", "manipulation", "synthetic"})
AT_ONCE = 1000
SUFFIX = re.compile(r"\.[a-z0-9]{1,5}", re.ASCII)


class Feedback(Payload):
    """What a human saw. It goes over every result for the same bytes, and is kept in the audit log."""

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
    return parts.desk.decide(scan_id, shown_to(key), decision)


@router.get(
    "/v1/feedback",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **documented()},
)
def feedback_manifest(key: Reviewer, parts: TheParts) -> Response:
    """The latest label of each content, as a training manifest (CSV). Media are not in it: put them at `path`, beside it."""
    rows: dict[str, dict[str, str]] = {}
    for entry in _decisions(parts.desk, shown_to(key)):
        row = _row(entry)
        rows[row["path"]] = row
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    name = 'attachment; filename="feedback.csv"'
    return Response(text.getvalue(), media_type="text/csv", headers={"Content-Disposition": name})


def _decisions(desk: Desk, owner: str | None) -> Iterator[dict[str, Any]]:
    """Oldest first."""
    after = "-"
    while found := desk.audit(None, after=after, count=AT_ONCE):
        yield from (entry for _, entry in found if owner in (None, entry["owner"]))
        after = found[-1][0]


def _row(entry: dict[str, Any]) -> dict[str, str]:
    source, sha256, label = entry.get("source") or {}, entry["sha256"], entry["verdict"]
    url, category = source.get("url") or "", entry.get("category") or ""
    return {
        "path": source.get("path") or sha256 + _suffix(url),
        "label": label,
        "source": "feedback",
        "group": f"feedback/{sha256}",
        "family": "real" if label == "real" else category if category in FAMILIES else "",
        "scan": entry["scan"],
        "sha256": sha256,
        "url": url,
        "category": category,
    }


def _suffix(url: str) -> str:
    suffix = posixpath.splitext(urlsplit(url).path)[1].lower()
    return suffix if SUFFIX.fullmatch(suffix) else ""
