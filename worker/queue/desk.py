"""What may be asked about scans, by whichever door (Python client, command line, HTTP): submit, look up, cancel, decide.

``owner`` None is the operator, who sees everything; otherwise another owner's scan does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from redis import Redis

from worker.errors import BadRequest, Conflict, NoSuchScan
from worker.queue.doorbell import Doorbells
from worker.queue.perform import report_of
from worker.queue.records import FINAL, Record, Records, Submission, Submitted, unpack
from worker.queue.requests import ScanRequest
from worker.report import Report
from worker.types import Label

PAGE = 100
SCANNED_A_PAGE = 2000
"""Records looked at for one page of a filtered list; a page may therefore be short and still have a next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """``cursor``: where the next page begins; None at the end."""

    reports: tuple[Report, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A human's word on some bytes; it goes over every result of this owner's for them, and changes none."""

    verdict: Literal["fake", "real"]
    by: str
    category: str | None = None
    note: str | None = None


class Desk:
    """Joins records, doorbells and human decisions."""

    def __init__(self, records: Records, bells: Doorbells) -> None:
        self.records, self._bells = records, bells
        self._redis: Redis = records.redis

    def submit(self, requests: Sequence[ScanRequest], owner: str) -> list[Submitted]:
        """Record scans and ring for the new ones; a refused one says so (``Submitted.refusal``)."""
        return self._send([Submission(request=request, owner=owner) for request in requests])

    def submit_one(self, request: ScanRequest, owner: str) -> Submitted:
        """Raises Conflict, QueueFull."""
        return self._one(Submission(request=request, owner=owner))

    def _one(self, submission: Submission) -> Submitted:
        (made,) = self._send([submission])
        if made.refusal is not None:
            raise made.refusal
        return made

    def _send(self, submissions: Sequence[Submission]) -> list[Submitted]:
        made = self.records.submit(submissions)
        pairs = zip(submissions, made, strict=True)
        self._bells.ring({one.id: submission.request.priority for submission, one in pairs if one.created})
        return made

    def record(self, scan_id: str, owner: str | None) -> Record:
        """Raises NoSuchScan, for another owner's too."""
        record = self.records.get(scan_id)
        if owner is not None and record.owner != owner:
            raise NoSuchScan(f"no scan {scan_id}")
        return record

    def report(self, scan_id: str, owner: str | None) -> Report:
        """The report in whatever state, a human's decision laid over it. Raises NoSuchScan."""
        return self._reports([self.record(scan_id, owner)])[0]

    def page(
        self,
        owner: str | None,
        *,
        status: str | None = None,
        verdict: str | None = None,
        external_id: str | None = None,
        dead: bool | None = None,
        cursor: str | None = None,
        limit: int = PAGE,
    ) -> Page:
        """Newest first. Raises BadRequest for a cursor that is none of ours."""
        found: list[Report] = []
        looked = 0
        at = cursor
        while len(found) < limit and looked < SCANNED_A_PAGE:
            ids, after = self._ids(owner, at, min(PAGE, SCANNED_A_PAGE - looked))
            looked += len(ids)
            for report, place in zip(self._reports_of(ids), ids, strict=True):
                at = place
                if report is not None and _wanted(report, status, verdict, external_id, dead):
                    found.append(report)
                    if len(found) == limit:
                        return Page(reports=tuple(found), cursor=place)
            if after is None:
                return Page(reports=tuple(found), cursor=None)
        return Page(reports=tuple(found), cursor=at)

    def each(self, owner: str | None, **filters: Any) -> Iterator[Report]:
        """All of a filtered list."""
        cursor: str | None = None
        while True:
            page = self.page(owner, cursor=cursor, **filters)
            yield from page.reports
            cursor = page.cursor
            if cursor is None:
                return

    def cancel(self, scan_id: str, owner: str | None) -> str:
        """The state now: ``cancelled``, ``running`` (it ends within seconds) or a final one. Raises NoSuchScan."""
        self.record(scan_id, owner)
        ended = self.records.cancel(scan_id)
        self._bells.ring(self.records.priorities(ended.ring))
        return ended.how

    def retry(self, scan_id: str, owner: str | None) -> Submitted:
        """A final scan's request again, as another with ``retry_of``. Raises NoSuchScan, QueueFull; Conflict before its end."""
        record = self.record(scan_id, owner)
        if not record.is_final:
            raise Conflict(f"scan {scan_id} is {record.state}: only one that has ended can be tried again")
        request = record.request.model_copy(update={"idempotency_key": None})
        return self._one(Submission(request=request, owner=record.owner, retry_of=scan_id))

    def decide(self, scan_id: str, owner: str | None, decision: Decision) -> Report:
        """Lay a human's decision over every result for the same bytes, and write it into the audit log, which only grows.

        Raises NoSuchScan, and Conflict for a scan whose bytes were never seen.
        """
        record = self.record(scan_id, owner)
        if record.sha256 is None:
            raise Conflict(f"scan {scan_id} has no content that a decision could be about")
        told = {"verdict": decision.verdict, "by": decision.by, "category": decision.category, "note": decision.note}
        source = record.request.source.model_dump(exclude_none=True)
        entry = {"owner": record.owner, "scan": scan_id, "sha256": record.sha256, "source": source, **told}
        with self._redis.pipeline() as pipe:
            pipe.set(self._override_key(record.owner, record.sha256), json.dumps(told))
            pipe.xadd(self.records.key("audit"), {"decision": json.dumps(entry)})
            pipe.execute()
        return self._reports([record])[0]

    def audit(self, owner: str | None, *, after: str = "-", count: int = 1000) -> list[tuple[str, dict[str, Any]]]:
        """Decisions, oldest first, with the ids that continue the list."""
        start = after if after == "-" else f"({after}"
        found = cast(list[tuple[bytes, dict[bytes, bytes]]], self._redis.xrange(self.records.key("audit"), start, "+", count))
        entries = [(number.decode(), json.loads(fields[b"decision"])) for number, fields in found]
        return [(number, entry) for number, entry in entries if owner is None or entry["owner"] == owner]

    def rescan(self, model_sha256: str, owner: str | None = None) -> Iterator[tuple[str, Submitted]]:
        """Submit every completed scan anew whose result is not this model's; old id and new. Uploads and followers' twins too."""
        for report in self.each(owner, status="completed"):
            if report.model is not None and report.model.sha256 != model_sha256:
                yield report.id, self.retry(report.id, owner)

    def backlog(self) -> dict[str, int]:
        """Scans waiting, running, dead, and callbacks owed."""
        key = self.records.key
        with self._redis.pipeline(transaction=False) as pipe:
            for name in ("waiting", "leases", "dead", "callbacks"):
                pipe.zcard(key(name))
            waiting, running, dead, callbacks = pipe.execute()
        return {"waiting": waiting, "running": running, "dead": dead, "callbacks": callbacks}

    def _ids(self, owner: str | None, cursor: str | None, count: int) -> tuple[list[str], str | None]:
        """Ids after a cursor, newest first, and the last where there may be more."""
        name = self.records.key("index") if owner is None else self.records.key("index", owner)
        start = 0
        if cursor is not None:
            rank = self._redis.zrevrank(name, cursor)
            if rank is None:
                raise BadRequest("cursor: not one of this list, or too old")
            start = int(cast(int, rank)) + 1
        found = cast(list[bytes], self._redis.zrevrange(name, start, start + count - 1))
        ids = [scan_id.decode() for scan_id in found]
        return ids, ids[-1] if len(ids) == count else None

    def _reports_of(self, scan_ids: Sequence[str]) -> list[Report | None]:
        """A forgotten scan is None."""
        records = self.records.get_many(scan_ids)
        by_id = {record.id: report for record, report in zip(records, self._reports(records), strict=True)}
        return [by_id.get(scan_id) for scan_id in scan_ids]

    def _reports(self, records: Sequence[Record]) -> list[Report]:
        reports = [report_of(record, unpack(record.report) if record.report else None) for record in records]
        with_bytes = [record for record in records if record.sha256 is not None and record.state == "completed"]
        if not with_bytes:
            return reports
        stored = self._redis.mget([self._override_key(record.owner, record.sha256 or "") for record in with_bytes])
        overrides = {record.id: json.loads(word) for record, word in zip(with_bytes, stored, strict=True) if word}
        return [_overlaid(report, overrides.get(report.id)) for report in reports]

    def _override_key(self, owner: str, sha256: str) -> str:
        return self.records.key("override", owner, sha256)


def _overlaid(report: Report, decision: dict[str, Any] | None) -> Report:
    if decision is None:
        return report
    return report.model_copy(update={"verdict": Label(decision["verdict"]), "decided_by": "human"})


def _wanted(report: Report, status: str | None, verdict: str | None, external_id: str | None, dead: bool | None) -> bool:
    return (
        (status is None or report.status == status)
        and (verdict is None or report.verdict == verdict)
        and (external_id is None or report.external_id == external_id)
        and (dead is None or report.dead == dead)
    )


def is_final(report: Report) -> bool:
    return report.status in FINAL
