"""``/v1/uploads``: bytes for a scan, as the body of a request and nothing around them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from worker.api.parts import Submitter, TheParts
from worker.api.problems import HttpError, documented

router = APIRouter(tags=["uploads"])
PATH = "/v1/uploads"


class Upload(BaseModel):
    """Kept for a day by default; a scan names it as ``source.upload``, as often as it likes."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(examples=["8f14e45fceea167a5a36dedd4bea2543"])
    size_bytes: int = Field(examples=[1048576])


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}},
    }
}


@router.post(PATH, status_code=201, openapi_extra=BODY, responses=documented(400, 408, 413, 415, 501))
async def upload_file(key: Submitter, request: Request, parts: TheParts) -> Upload:
    """Send a file as it is; what it is shows when it is scanned. The id is good for this owner's scans only."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise HttpError(415, "send the file itself, not a form: curl -X POST -T FILE, or --data-binary @FILE")
    if parts.intake is None:
        raise HttpError(501, "uploads are not kept here: artifacts.url is not set")
    upload_id, size_bytes = await parts.intake.take(key.owner, request.stream())
    return Upload(id=upload_id, size_bytes=size_bytes)
