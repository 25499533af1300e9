"""``/v1/scans``: submit, look up, list, cancel, try again."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from worker.api.parts import Parts, Reader, Submitter, TheParts, json_body, shown_to
from worker.api.problems import HttpError, documented
from worker.errors import BadRequest, FetchGone, FetchRefused
from worker.queue.access import KeyInfo
from worker.queue.desk import once_more
from worker.queue.fetching import artifact_key
from worker.queue.record import Submission, Submitted
from worker.queue.requests import ID, ScanRequest, read_request
from worker.report import ErrorItem, Probability, ReasonItem, Report, Source, Status
from worker.types import Label

router = APIRouter(tags=["scans"])
ARTIFACT = r"^[a-z0-9][a-z0-9_-]{0,63}\.(jpg|jsonl)$"
PIECE_BYTES = 1 << 16
START_S = "begin of the part of a video that alone was scanned, in seconds; null otherwise"
END_S = "end of that part"
ScanId = Annotated[str, Path(pattern=rf"^{ID}$", examples=["8f14e45fceea167a5a36dedd4bea2543"])]


class Accepted(BaseModel):
    """A scan and the state it is in."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(examples=["8f14e45fceea167a5a36dedd4bea2543"])
    status: Status = Field(examples=["queued"])


class Summary(BaseModel):
    """A report without its evidence, as lists show it."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: str
    kind: Literal["scan", "watch"]
    source: Source
    external_id: str | None
    owner: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    retry_of: str | None
    status: Status
    dead: bool
    progress: Probability
    attempt: int
    verdict: Label | None
    decided_by: Literal["model", "human"]
    reasons: tuple[ReasonItem, ...]
    score: Probability | None
    calibrated: bool
    start_s: float | None = Field(description=START_S)
    end_s: float | None = Field(description=END_S)
    error: ErrorItem | None


class ScanList(BaseModel):
    """Newest first. ``next_cursor`` null: that was all. A filtered page may be short, even empty, and yet have a next one."""

    model_config = ConfigDict(frozen=True)

    scans: tuple[Summary, ...]
    next_cursor: str | None


def whole_number(value: object) -> object:
    """As JSON writes it: pydantic alone would take ``1.0`` and ``1_0`` too."""
    if isinstance(value, str) and not re.fullmatch(r"-1|[0-9]{1,9}", value, re.ASCII):
        raise ValueError("a whole number in digits")
    return value


def _truth(value: object) -> object:
    """As JSON writes it: pydantic alone would take ``yes`` and ``on`` too."""
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("true or false")
    return value


class Filters(BaseModel):
    """Closed, so that a misspelt filter does not show everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Status | None = None
    verdict: Literal["fake", "real", "uncertain", "not_applicable"] | None = None
    external_id: str | None = Field(default=None, min_length=1, max_length=255)
    dead: Annotated[bool, BeforeValidator(_truth)] | None = Field(default=None, description="in the dead letter state")
    cursor: str | None = Field(default=None, pattern=rf"^[0-9]{{1,15}}-{ID}$", description="`next_cursor` of the page before")
    limit: Annotated[int, BeforeValidator(whole_number)] = Field(default=50, ge=1, le=200)


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ScanRequest"},
                "examples": {
                    "address": {
                        "summary": "A video by its address, with a callback",
                        "value": {
                            "source": {"url": "https://media.example/clips/17.mp4"},
                            "external_id": "post-17",
                            "priority": "live",
                            "callback_url": "https://moderation.example/hooks/veriframe",
                        },
                    },
                    "stream": {
                        "summary": "A live stream, watched for an hour",
                        "value": {
                            "kind": "watch",
                            "source": {"url": "https://media.example/live.m3u8"},
                            "options": {"window_s": 10, "hop_s": 5, "max_duration_s": 3600},
                            "callback_url": "https://moderation.example/hooks/veriframe",
                        },
                    },
                    "upload": {
                        "summary": "What was uploaded before",
                        "value": {"source": {"upload": "8f14e45fceea167a5a36dedd4bea2543"}, "options": {"max_frames": 64}},
                    },
                },
            }
        },
    }
}
TAKEN: dict[str, Any] = {
    "headers": {"Location": {"description": "Where the scan's report is", "schema": {"type": "string"}}},
    "links": {
        name: {"operationId": name, "parameters": {"scan_id": "$response.body#/id"}}
        for name in ("show_scan", "list_events", "cancel_scan", "retry_scan", "give_feedback")
    },
}


KNOWN: dict[str, Any] = {"model": Accepted, "description": "The idempotency key names this older scan", **TAKEN}
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", description="as `idempotency_key`: the same key and body name the same scan")
]


async def _request(body: Annotated[bytes, Depends(json_body)], idempotency_key: IdempotencyKey = None) -> ScanRequest:
    request = read_request(body)
    return request if idempotency_key is None else _keyed(request, idempotency_key)


def _keyed(request: ScanRequest, idempotency_key: str) -> ScanRequest:
    """With the key of the header. Raises BadRequest."""
    with contextlib.suppress(UnicodeDecodeError):  # as UTF-8 if it is: headers are read as Latin-1
        idempotency_key = idempotency_key.encode("latin-1").decode()
    if request.idempotency_key not in (None, idempotency_key):
        raise BadRequest("the header Idempotency-Key and idempotency_key in the body differ")
    return read_request({**request.model_dump(mode="json", exclude_none=True), "idempotency_key": idempotency_key})


@router.post(
    "/v1/scans",
    status_code=202,
    openapi_extra=BODY,
    responses={200: KNOWN, 202: TAKEN, **documented(400, 408, 409, 413, 415)},
)
def submit_scan(
    key: Submitter, request: Annotated[ScanRequest, Depends(_request)], parts: TheParts, response: Response
) -> Accepted:
    """Hand over a scan, or a stream to be watched. The answer comes at once; the report is at `Location`, and goes to
    `callback_url` when it is done, as does each event of a watch."""
    return _accepted(parts, submitted(parts, key, request), key.owner, response)


def _accepted(parts: Parts, made: Submitted, owner: str, response: Response) -> Accepted:
    response.headers["Location"] = f"/v1/scans/{made.id}"
    if made.created:
        return Accepted(id=made.id, status="queued")
    response.status_code = 200
    return Accepted(id=made.id, status=parts.desk.record(made.id, owner).state)


@router.get("/v1/scans", responses=documented())
def list_scans(key: Reader, filters: Annotated[Filters, Query()], parts: TheParts) -> ScanList:
    """The caller's scans, newest first."""
    page = parts.desk.page(
        shown_to(key),
        status=filters.status,
        verdict=filters.verdict,
        external_id=filters.external_id,
        dead=filters.dead,
        cursor=filters.cursor,
        limit=filters.limit,
    )
    return ScanList(scans=tuple(Summary.model_validate(report) for report in page.reports), next_cursor=page.cursor)


@router.get("/v1/scans/{scan_id}", responses=documented(404, 409))
def show_scan(key: Reader, scan_id: ScanId, parts: TheParts) -> Report:
    """The report, in whatever state the scan is."""
    return parts.desk.report(scan_id, shown_to(key))


@router.get(
    "/v1/scans/{scan_id}/artifacts/{name}",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The bytes"}, **documented(404, 409)},
)
def show_artifact(
    key: Reader, scan_id: ScanId, name: Annotated[str, Path(pattern=ARTIFACT, examples=["frames.jsonl"])], parts: TheParts
) -> StreamingResponse:
    """An evidence crop that the report names, or `frames.jsonl`, every looked-at frame; 404 where it is not retained."""
    parts.desk.record(scan_id, shown_to(key))
    try:
        file = parts.artifacts.open(artifact_key(scan_id, name))
    except FetchGone as exc:
        raise HttpError(404, "not retained") from exc
    kind = "image/jpeg" if name.endswith(".jpg") else "application/x-ndjson"
    return StreamingResponse(_pieces(file), media_type=kind, headers={"Content-Disposition": "attachment"})


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece


@router.post("/v1/scans/{scan_id}/cancel", responses=documented(404, 409))
def cancel_scan(key: Submitter, scan_id: ScanId, parts: TheParts) -> Accepted:
    """A waiting scan is cancelled at once, a running one within seconds; one that has ended stays as it is. A watch that is under
    way is completed, with the report of what it saw."""
    return Accepted.model_validate({"id": scan_id, "status": parts.desk.cancel(scan_id, shown_to(key))})


@router.post("/v1/scans/{scan_id}/retry", status_code=202, responses={200: KNOWN, 202: TAKEN, **documented(404, 409)})
def retry_scan(
    key: Submitter, scan_id: ScanId, parts: TheParts, response: Response, idempotency_key: IdempotencyKey = None
) -> Accepted:
    """The same request as a new scan, with `retry_of`; only for one that has ended. The same idempotency key names
    the same one."""
    again = once_more(parts.desk.record(scan_id, shown_to(key)), None)
    if idempotency_key is not None:
        again = replace(again, request=_keyed(again.request, idempotency_key))
    asked, owner = again.request.idempotency_key, again.owner
    made = parts.desk.known(again) or counted(parts, owner, lambda: parts.desk.retry(scan_id, owner, asked))
    return _accepted(parts, made, owner, response)


def submitted(parts: Parts, key: KeyInfo, request: ScanRequest) -> Submitted:
    """The new scan, or the older one that the idempotency key names: that one is there whatever the day's quota, and whether or
    not its upload still is. Raises BadRequest, FetchError, QueueFull, Conflict."""
    known = parts.desk.known(Submission(request=request, owner=key.owner))
    if known is not None:
        return known
    _refuse_unusable(parts, key, request)
    return counted(parts, key.owner, lambda: parts.desk.submit_one(request, key.owner))


def _refuse_unusable(parts: Parts, key: KeyInfo, request: ScanRequest) -> None:
    """What no worker would do, told at once. Workers check again: names may lead elsewhere by then."""
    source = request.source
    if source.path is not None and not parts.takes_paths:
        raise FetchRefused("source.path: files of the service's own are not scanned here")
    if source.upload is not None and (parts.intake is None or not parts.intake.has(key.owner, source.upload)):
        raise BadRequest("source.upload: there is no such upload, or its time is over")
    if source.url is not None:
        parts.check_source(source.url)
    if request.callback_url is not None:
        parts.check_callback(request.callback_url)


def counted(parts: Parts, owner: str, submit: Callable[[], Submitted]) -> Submitted:
    """A submission counted against its owner's day, unless nothing new came of it."""
    day = parts.quotas.scans(owner)
    is_new = False
    try:
        made = submit()
        is_new = made.created
    finally:
        if not is_new:
            parts.quotas.give_back(owner, day)
    return made
