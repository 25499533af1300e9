"""``/v1/scans/{id}/media``: the bytes that were scanned, where they are retained, whole or in ranges (RFC 9110, 14)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from worker.api.parts import Reader, TheParts, shown_to
from worker.api.problems import HttpError, documented
from worker.api.scans import ScanId
from worker.artifacts import ArtifactStore
from worker.errors import FetchGone
from worker.queue.media import open_media
from worker.report import Report

router = APIRouter(tags=["scans"])
PIECE_BYTES = 1 << 18
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
SAFE = {
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Whatever a file pretends to be, opened by itself it runs nothing."""
BYTES: dict[str, Any] = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
RangeHeader = Annotated[str | None, Header(alias="Range", description="one range of bytes, such as bytes=0-1023; several: all")]
IfRange = Annotated[str | None, Header(alias="If-Range", description="an ETag; where it is another's, all is sent")]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", description="ETags of what the caller has already")]


@router.get(
    "/v1/scans/{scan_id}/media",
    response_class=Response,
    responses={
        200: {"description": "All of it", **BYTES},
        206: {"description": "The range that was asked for", **BYTES},
        304: {"description": "The caller has it"},
        **documented(404, 409, 416),
    },
)
def show_media(
    key: Reader,
    scan_id: ScanId,
    parts: TheParts,
    wanted: RangeHeader = None,
    if_range: IfRange = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """What was fetched or uploaded for a scan; 404 where it is not retained (`artifacts.media_keep_s` is 0 by default). Its ETag
    is the SHA-256, its type what it was found to be. What lay below a media root, and watched streams, are never retained."""
    report = parts.desk.report(scan_id, shown_to(key))
    return media_response(parts.artifacts, report, wanted, if_range, if_none_match)


def media_response(
    store: ArtifactStore, report: Report, wanted: str | None = None, if_range: str | None = None, if_none_match: str | None = None
) -> Response:
    """The answer to a request with these headers, for whoever may see the report. Raises HttpError (404, 416), StorageError."""
    try:
        kept = open_media(store, report)
    except FetchGone as exc:
        raise HttpError(404, "not retained") from exc
    tag = f'"{kept.sha256}"'
    headers = {
        **SAFE,
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{report.id}{kept.suffix}"',
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept.file)
        if if_none_match is not None and not {"*", tag, f"W/{tag}"}.isdisjoint(re.split(r"[,\s]+", if_none_match)):
            return Response(status_code=304, headers=headers)
        size = kept.file.seek(0, os.SEEK_END)
        span = None if wanted is None or if_range not in (None, tag) else range_of(wanted, size)
        stack.pop_all()  # closed when it was sent
    start, stop = span or (0, size)
    headers["Content-Length"] = str(stop - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return StreamingResponse(_pieces(kept.file, start, stop), 200 if span is None else 206, headers, kept.mime)


def range_of(wanted: str, size: int) -> tuple[int, int] | None:
    """The range [start, stop) of a Range header; None: it is to be passed over, as another unit, or several ranges.

    Raises HttpError (416) where nothing of it is there.
    """
    form = RANGE.fullmatch(wanted.strip())
    if form is None or not any(form.groups()):
        return None
    first, last = form.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= min(stop, size):
        raise HttpError(416, f"there are {size} bytes", {"Content-Range": f"bytes */{size}"})
    return start, stop


def _pieces(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < stop and (piece := file.read(min(PIECE_BYTES, stop - start))):
            start += len(piece)
            yield piece
