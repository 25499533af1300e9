"""A scan's report on the wire: as its record tells it, as a result that another scan paid for, and as its own."""

from __future__ import annotations

from datetime import UTC, datetime

from worker.queue.record import Claim, Record
from worker.queue.requests import RequestSource
from worker.report import ErrorItem, Report, Source


def without_crops(report: Report) -> Report:
    """A result that another scan paid for: its crops, maps and frames belong to that one."""
    nothing = {"crop": None, "explanation": None, "frame": None}
    tracks = tuple(
        track.model_copy(update={"evidence": tuple(one.model_copy(update=nothing) for one in track.evidence)})
        for track in report.tracks
    )
    return report.model_copy(update={"tracks": tracks})


def taken_over(report: Report) -> Report:
    """A result that another scan paid for, with nothing of that one's: neither crops nor times."""
    return without_crops(report).model_copy(update={"timings_ms": None})


def identified(report: Report, record: Record, claim: Claim | None = None) -> Report:
    """A result as this scan's own: nothing of whoever's scan it was first."""
    return report.model_copy(
        update={
            "id": record.id,
            "owner": record.owner,
            "external_id": record.request.external_id,
            "source": wire_source(record.request.source),
            "created_at": moment(record.created_ms),
            "started_at": moment(record.started_ms or record.created_ms),
            "finished_at": datetime.now(UTC),
            "retry_of": record.retry_of,
            "attempt": claim.attempt if claim else record.attempt,
        }
    )


def report_of(record: Record, stored: Report | None) -> Report:
    """The wire report of a scan in any state."""
    if stored is not None:
        return stored.model_copy(update={"finished_at": moment(record.finished_ms or record.created_ms)})
    return Report(
        id=record.id,
        kind=record.request.kind,
        owner=record.owner,
        external_id=record.request.external_id,
        source=wire_source(record.request.source),
        created_at=moment(record.created_ms),
        started_at=moment(record.started_ms) if record.started_ms else None,
        finished_at=moment(record.finished_ms) if record.finished_ms else None,
        retry_of=record.retry_of,
        status=record.state,
        dead=record.dead,
        progress=record.progress,
        attempt=record.attempt,
        error=ErrorItem.model_validate(record.error, extra="ignore") if record.error and record.state == "failed" else None,
    )


def wire_source(source: RequestSource) -> Source:
    if source.kind == "path":
        return Source(kind="path", path=source.path)
    return Source(kind=source.kind, url=source.url)


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
