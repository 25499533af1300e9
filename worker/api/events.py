"""``/v1/scans/{id}/events``: what a watch has told so far."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from worker.api.parts import Reader, TheParts, shown_to
from worker.api.problems import documented
from worker.api.scans import ScanId, whole_number
from worker.report import Status
from worker.watch.events import WatchEvent

router = APIRouter(tags=["scans"])


class Events(BaseModel):
    """A watch's events in the order of their numbers, which have no gaps. To follow a watch: ask for those after the last one
    that you have, until `status` is a final one and `events` is empty."""

    model_config = ConfigDict(frozen=True)

    events: tuple[WatchEvent, ...]
    status: Status = Field(description="of the watch; where it is a final one, there will be no further events")
    count: int = Field(description="how many events there are so far")
    oldest: int = Field(description="number of the oldest that is still kept; greater than `after` + 1: some are gone")


class Span(BaseModel):
    """Closed, so that a misspelt parameter does not show everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: Annotated[int, BeforeValidator(whole_number)] = Field(
        default=-1, ge=-1, le=999_999_999, description="a number; -1: from 0 on"
    )
    limit: Annotated[int, BeforeValidator(whole_number)] = Field(default=200, ge=1, le=1000)


@router.get("/v1/scans/{scan_id}/events", responses=documented(404, 409))
def list_events(key: Reader, scan_id: ScanId, span: Annotated[Span, Query()], parts: TheParts) -> Events:
    """Events of a watch behind a number, the oldest first; 409 for a scan."""
    state, page = parts.desk.events(scan_id, shown_to(key), after=span.after, limit=span.limit)
    return Events(events=page.events, status=state, count=page.count, oldest=page.oldest)
