"""What the page of one scan shows: a report and its record in the order in which a reviewer asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worker.api.parts import Parts
from worker.console.look import Scan
from worker.deciding import is_pooled, ranked
from worker.errors import StorageError
from worker.pages import words
from worker.pages.evidence import MOST_NAMED, shown_tracks
from worker.pages.pictures import Picture
from worker.pages.timeline import FRAME_MS, digits, listed, moment, score_svg, timeline_svg
from worker.queue.audit import part_of
from worker.queue.desk import as_stored
from worker.queue.fetching import artifacts_key
from worker.queue.media import is_retained, media_type
from worker.queue.record import Record
from worker.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """Kept media, as a page shows them."""

    url: str
    is_video: bool
    mime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """A scan's pictures by their addresses. ``kept``: those that there are; None: nobody knows, and a browser is to ask."""

    scan_id: str
    kept: frozenset[str] | None

    def get(self, name: str | None) -> Picture:
        if name is None or (self.kept is not None and name not in self.kept):
            return Picture(missing=words.NOT_RETAINED)
        return Picture(uri=f"/console/scans/{self.scan_id}/crops/{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A human's word as the page tells it; ``by`` is the name of the key, or what the audit log has."""

    when_ms: int
    verdict: str
    by: str
    scan: str
    category: str | None
    note: str | None
    part: str | None
    """What of the video alone was scanned, if it was not the whole."""


def facts_of(report: Report, record: Record, parts: Parts, going: Scan, owner: str | None) -> dict[str, Any]:
    """Values of ``scan.html``. ``going``: how far the scan is; ``owner`` None: an operator looks."""
    shown = shown_tracks(report, Linked(scan_id=report.id, kept=_kept_pictures(report, parts)))
    named = {one.track.id for one in shown}
    return {
        "report": report,
        "record": record,
        "going": None if record.is_final else going,
        "headline": words.headline(report),
        "tone": words.tone(report),
        "reasons": words.reasons(report),
        "error_says": words.error(report.error.code) if report.error else None,
        "human": words.HUMAN if report.decided_by == "human" else None,
        "left_out": words.left_out(report),
        "uncalibrated": words.UNCALIBRATED if report.score is not None and not report.calibrated else None,
        "pooled": words.POOLED if is_pooled(report) else None,
        "stopped_by": words.STOPPED_BY.get(report.sampling.stopped_by or "") if report.sampling else None,
        "ending": words.ENDINGS.get(report.watch.ending or "") if report.watch else None,
        "gap_causes": words.GAP_CAUSES,
        "limits": words.LIMITS,
        "model_said": _model_said(report, record),
        "score_svg": score_svg(report),
        "digits": digits(report),
        "timeline_svg": timeline_svg(report),
        "listed": listed(report),
        "shown": shown,
        "has_map": any(moment.map is not None for one in shown for moment in one.moments),
        "others": [track for track in ranked(report) if track.id not in named][:MOST_NAMED],
        "footage": _footage(report, parts),
        "decisions": _decisions(record, parts, owner),
        "events": going.events,
        "moment": moment,
        "frame_ms": FRAME_MS,
    }


def _model_said(report: Report, record: Record) -> words.Words | None:
    """The model's own word under a human's."""
    if report.decided_by != "human":
        return None
    stored = as_stored(record)
    return None if stored.verdict is None else words.VERDICTS[stored.verdict]


def _decisions(record: Record, parts: Parts, owner: str | None) -> list[Decided]:
    found = parts.desk.decisions(record)
    keys = {str(entry["by"]).removeprefix("key:") for _, entry in found if str(entry["by"]).startswith("key:")}
    names = {f"key:{key_id}": name for key_id, name in parts.keys.names(keys, owner).items()}
    return [
        Decided(
            when_ms=when_ms,
            verdict=entry["verdict"],
            by=names.get(entry["by"], entry["by"]),
            scan=entry["scan"],
            category=entry.get("category"),
            note=entry.get("note"),
            part=_part(entry),
        )
        for when_ms, entry in found
    ]


def _kept_pictures(report: Report, parts: Parts) -> frozenset[str] | None:
    """None: the store does not answer, which costs a page its pictures and no more."""
    try:
        return parts.artifacts.names(artifacts_key(report.id)) if report.tracks else None
    except StorageError:
        return None


def _part(entry: dict[str, Any]) -> str | None:
    return f"{moment(round(1000 * entry['start_s']))} to {moment(round(1000 * entry['end_s']))}" if part_of(entry) else None


def _footage(report: Report, parts: Parts) -> Footage | None:
    """None: not retained, or the store does not answer, which costs a page its video and no more."""
    if report.media is None:
        return None
    try:
        if not is_retained(parts.artifacts, report):
            return None
    except StorageError:
        return None
    mime, _ = media_type(report.media)
    return Footage(url=f"/console/scans/{report.id}/media", is_video=mime.startswith("video/"), mime=mime)
