"""What may be asked about scans, by whichever door (Python client, command line, HTTP): submit, look up, cancel, decide.

``owner`` None is the operator, who sees everything; otherwise another owner's scan does not exist.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis import Redis

from worker.errors import BadRequest, Conflict, NoSuchScan, QueueError, UnreadableRecord
from worker.output.text import bare_address
from worker.queue.audit import DECISIONS, AuditLog, part_of
from worker.queue.doorbell import Doorbells
from worker.queue.near import NearIndex, still_there
from worker.queue.places import Place, batches, places, places_within
from worker.queue.record import Glance, Record, State, Submission, Submitted, glance_of, unpack
from worker.queue.records import Records
from worker.queue.reports import report_of
from worker.queue.requests import ID, RequestSource, ScanRequest
from worker.queue.watch_log import EventsPage, WatchLog
from worker.report import Report
from worker.types import Label

log = logging.getLogger(__name__)

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
        self._audit = AuditLog(records.redis, records.namespace)
        self._log = WatchLog(records.redis, records.namespace)
        self._near = NearIndex(records)

    def submit(self, requests: Sequence[ScanRequest], owner: str) -> list[Submitted]:
        """Record scans and ring for the new ones; a refused one says so (``Submitted.refusal``)."""
        return self.send([Submission(request=request, owner=owner) for request in requests])

    def submit_one(self, request: ScanRequest, owner: str) -> Submitted:
        """Raises Conflict, QueueFull."""
        return self._one(Submission(request=request, owner=owner))

    def known(self, submission: Submission) -> Submitted | None:
        """The older scan that the idempotency key names, if there is one (``Records.known``). Raises Conflict."""
        found = self.records.known(submission)
        return None if found is None else _unless_refused(found)

    def _one(self, submission: Submission) -> Submitted:
        (made,) = self.send([submission])
        return _unless_refused(made)

    def send(self, submissions: Sequence[Submission]) -> list[Submitted]:
        """Submissions made before; sent again under the same ids, they are the same scans."""
        made = self.records.submit(submissions)
        pairs = zip(submissions, made, strict=True)
        accepted = {one.id: submission.request for submission, one in pairs if one.created}
        for scan_id, request in accepted.items():  # before a worker can say that it has it
            told = {"scan_id": scan_id, "queue": request.queue, "kind": request.kind}
            log.info("scan %s accepted", scan_id, extra=told)
        self._bells.ring({scan_id: request.queue for scan_id, request in accepted.items()})
        return made

    def record(self, scan_id: str, owner: str | None) -> Record:
        """Raises NoSuchScan, for another owner's too; UnreadableRecord."""
        return self.records.get(scan_id, owner)

    def report(self, scan_id: str, owner: str | None) -> Report:
        """The report in whatever state, a human's decision laid over it. Raises NoSuchScan, UnreadableRecord."""
        return self.report_of(self.record(scan_id, owner))

    def report_of(self, record: Record) -> Report:
        """``report`` for whoever has the record already. Raises UnreadableRecord."""
        return still_there(self.records, self._overlaid([(record, as_stored(record))]))[0]

    def near_duplicates(self, scan_id: str, owner: str | None) -> list[tuple[Report, float]]:
        """The owner's completed scans of near-identical media, without this one, newest first, with their distances
        (``worker.queue.near``). They decide nothing. Raises NoSuchScan, UnreadableRecord."""
        report = self.report(scan_id, owner)
        distances = {near.id: near.distance for near in self._near.near(report)}
        found = self._reports(self.records.get_many(list(distances)))
        return [(near, distances[near.id]) for near in found]

    def events(self, scan_id: str, owner: str | None, *, after: int = -1, limit: int = 1000) -> tuple[State, EventsPage]:
        """A watch's state, and its events behind a number: where the state is final, there will be no others.

        Raises NoSuchScan, UnreadableRecord; Conflict for a scan, which has none.
        """
        record = self.record(scan_id, owner)
        if record.request.kind != "watch":
            raise Conflict(f"scan {scan_id} is no watch: it has no events")
        return record.state, self._log.page(scan_id, after=after, limit=limit)

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
        is_filtered = (status, verdict, external_id, dead) != (None, None, None, None)
        step = PAGE if is_filtered else min(PAGE, limit)
        at = None if cursor is None else _place(cursor)
        while looked < SCANNED_A_PAGE:
            here = self._places(owner, dead, at, step)
            looked += step
            fitting = [place.id for place in here]
            if is_filtered:
                seen = [one for one in self.records.glances(fitting) if _fits(one, owner, status, external_id, dead)]
                fitting = [one.id for one in (seen if verdict is None else self._with_verdict(seen, verdict))]
            records = self.records.get_many(fitting)
            wanted = [record for record in records if _fits(glance_of(record), owner, status, external_id, dead)]
            reports = {report.id: report for report in self._reports(wanted)}
            for at in here:
                report = reports.get(at.id)
                if report is not None and (verdict is None or report.verdict == verdict):
                    found.append(report)
                    if len(found) == limit:
                        return Page(reports=tuple(found), cursor=str(at))
            if len(here) < step:
                return Page(reports=tuple(found), cursor=None)
        return Page(reports=tuple(found), cursor=str(at))

    def _places(self, owner: str | None, dead: bool | None, after: Place | None, count: int) -> list[Place]:
        """The owner's own alone, also of the dead letters: a cursor may stand at any of them, and tells its id."""
        if not dead:
            return places(self._redis, self.index_of(owner), after, count)
        if owner is None:
            return places(self._redis, self.records.key("dead"), after, count)
        return places_within(self._redis, self.records.key("dead"), self.index_of(owner), after, count)

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
        """The state now: ``cancelled``, ``running`` (it ends within seconds) or a final one. Raises NoSuchScan,
        UnreadableRecord."""
        (told,) = self.cancel_each([scan_id], owner)
        if isinstance(told, str):
            return told
        raise told

    def cancel_each(self, scan_ids: Sequence[str], owner: str | None) -> list[str | QueueError]:
        """``cancel`` of many, in a few round trips: the state of each, or what that would raise."""
        found = self.records.get_each(scan_ids, owner)
        there = [scan_id for scan_id, one in zip(scan_ids, found, strict=True) if isinstance(one, Record)]
        ended = dict(zip(there, self.records.cancel_each(there), strict=True))
        self._bells.ring(self.records.priorities([scan_id for one in ended.values() for scan_id in one.ring]))
        told: list[str | QueueError] = []
        for scan_id, one in zip(scan_ids, found, strict=True):
            if not isinstance(one, Record):
                told.append(one)
            elif (how := ended[scan_id].how) == "gone":
                told.append(NoSuchScan(f"no scan {scan_id}"))
            else:
                log.info("scan %s is to be cancelled: %s", scan_id, how, extra={"scan_id": scan_id, "state": how})
                told.append(how)
        return told

    def retry(self, scan_id: str, owner: str | None, idempotency_key: str | None = None) -> Submitted:
        """A final scan's request again, as another with ``retry_of``. Raises NoSuchScan, QueueFull; Conflict before its end, and
        for a key that was used for another request; UnreadableRecord."""
        (made,) = self.retry_each([scan_id], owner, idempotency_key)
        return _unless_refused(made)

    def retry_each(self, scan_ids: Sequence[str], owner: str | None, idempotency_key: str | None = None) -> list[Submitted]:
        """``retry`` of many, in a few round trips; one that is refused says so, and stops none of the others."""
        wanted = [_again(found, idempotency_key) for found in self.records.get_each(scan_ids, owner)]
        made = iter(self.send([one for one in wanted if isinstance(one, Submission)]))
        return [
            next(made) if isinstance(one, Submission) else Submitted(id=scan_id, created=False, refusal=one)
            for scan_id, one in zip(scan_ids, wanted, strict=True)
        ]

    def decide(self, scan_id: str, owner: str | None, decision: Decision) -> Report:
        """Lay a human's decision over every result for the same bytes, and write it into the audit log, which only grows.
        Where it is the one that holds, of this scan, nothing is written. Of a scan of a part of a video it is about that part
        alone; a decision on the whole goes over parts that have none of their own.

        Raises NoSuchScan, UnreadableRecord, and Conflict for a scan that has no result of bytes, or one of a part by a version
        that did not say which.
        """
        record = self.record(scan_id, owner)
        if record.sha256 is None or record.state != "completed":
            raise Conflict(f"scan {scan_id} has no result of a content that a decision could be about")
        options, summary = record.request.options, record.summary or {}
        if "start_s" not in summary and (options.start_s or options.end_s is not None):
            raise Conflict(
                f"scan {scan_id} is of a part of a video, and by a version that did not say which: retry it, and decide then"
            )
        report = as_stored(record)
        told = {"verdict": decision.verdict, "by": decision.by, "category": decision.category, "note": decision.note}
        source = _without_secrets(record.request.source)
        part = {name: summary.get(name) for name in ("start_s", "end_s")}
        entry = {"owner": record.owner, "scan": scan_id, "sha256": record.sha256, "source": source, **part, **told}
        self._audit.write(entry, told)
        return still_there(self.records, self._overlaid([(record, report)]))[0]

    def audit(self, owner: str | None, *, after: str = "-", count: int = 1000) -> list[tuple[str, dict[str, Any]]]:
        """Decisions, oldest first, with the ids that continue the list."""
        return [(number, entry) for number, entry in self._audit.page(after, count) if owner in (None, entry["owner"])]

    def decisions_of(self, owner: str) -> Iterator[dict[str, Any]]:
        """All of one owner's, oldest first, without reading everybody else's."""
        return self._audit.each_of(owner)

    def decisions(self, record: Record, *, count: int = DECISIONS) -> list[tuple[int, dict[str, Any]]]:
        """The latest decisions on a scan's bytes by its owner's reviewers, newest first, each with its time (ms)."""
        if record.sha256 is None:
            return []
        return self._audit.about(record.owner, record.sha256, count)

    def batches(self, index: str) -> Iterator[list[str]]:
        """The ids of a whole list (``index_of``), newest first; whatever is added or forgotten in between, each comes once."""
        return batches(self._redis, index, PAGE)

    def index_of(self, owner: str | None) -> str:
        return self.records.key("index") if owner is None else self.records.key("index", owner)

    def count(self, owner: str | None) -> int:
        """Scans on record, about: those that Redis has just forgotten may still be counted."""
        return int(self._redis.zcard(self.index_of(owner)))

    def _reports(self, records: Sequence[Record]) -> list[Report]:
        """Those that this version can read."""
        read: list[tuple[Record, Report]] = []
        for record in records:
            try:
                read.append((record, as_stored(record)))
            except UnreadableRecord as exc:
                log.warning("passed over: %s", exc)
        return still_there(self.records, self._overlaid(read))

    def _overlaid(self, read: Sequence[tuple[Record, Report]]) -> list[Report]:
        overrides = self._overrides([record for record, _ in read])
        return [_overlaid(report, overrides.get(report.id)) for _, report in read]

    def _overrides(self, records: Sequence[Record | Glance]) -> dict[str, dict[str, Any]]:
        """The decisions that hold for these, by the scan's id."""
        with_bytes = [record for record in records if record.sha256 is not None and record.state == "completed"]
        if not with_bytes:
            return {}
        of_whole = [self.records.key("override", record.owner, record.sha256 or "") for record in with_bytes]
        of_part = [":".join((key, *part_of(record.summary or {}))) for key, record in zip(of_whole, with_bytes, strict=True)]
        stored = dict(zip((*of_whole, *of_part), self._redis.mget([*of_whole, *of_part]), strict=True))
        words = (stored[part] or stored[whole] for part, whole in zip(of_part, of_whole, strict=True))
        return {record.id: json.loads(word) for record, word in zip(with_bytes, words, strict=True) if word}

    def _with_verdict(self, seen: Sequence[Glance], verdict: str) -> list[Glance]:
        """Those that may have this verdict, by what is known without their reports."""
        completed = [one for one in seen if one.state == "completed"]
        overrides = self._overrides(completed)
        said = [(one, overrides.get(one.id) or one.summary) for one in completed]
        return [one for one, word in said if word is None or word.get("verdict") == verdict]


def _unless_refused(made: Submitted) -> Submitted:
    """Raises Conflict, QueueFull, NoSuchScan."""
    if made.refusal is not None:
        raise made.refusal
    return made


def _again(found: Record | QueueError, idempotency_key: str | None) -> Submission | QueueError:
    if not isinstance(found, Record):
        return found
    if not found.is_final:
        return Conflict(f"scan {found.id} is {found.state}: only one that has ended can be tried again")
    return once_more(found, idempotency_key)


def once_more(record: Record, idempotency_key: str | None) -> Submission:
    """A scan's request as another scan."""
    request = record.request.model_copy(update={"idempotency_key": idempotency_key})
    return Submission(request=request, owner=record.owner, retry_of=record.id)


def as_stored(record: Record) -> Report:
    """Raises UnreadableRecord."""
    try:
        return report_of(record, unpack(record.report) if record.report else None)
    except (UnreadableRecord, ValueError) as exc:
        raise UnreadableRecord(f"the report of scan {record.id} was stored by another version of veriframe") from exc


def _overlaid(report: Report, decision: dict[str, Any] | None) -> Report:
    if decision is None:
        return report
    return report.model_copy(update={"verdict": Label(decision["verdict"]), "decided_by": "human"})


def _without_secrets(source: RequestSource) -> dict[str, Any]:
    """What the log keeps for ever: of an address neither login nor query, which may hold a signature, nor fragment."""
    told = source.model_dump(exclude_none=True)
    return told if source.url is None else told | {"url": bare_address(source.url)}


def _fits(seen: Glance, owner: str | None, status: str | None, external_id: str | None, dead: bool | None) -> bool:
    return (
        (owner is None or seen.owner == owner)
        and (status is None or seen.state == status)
        and (external_id is None or seen.external_id == external_id)
        and (dead is None or seen.dead == dead)
    )


def _place(cursor: str) -> Place:
    form = re.fullmatch(rf"(\d{{1,15}})-({ID})", cursor, re.ASCII)
    if form is None:
        raise BadRequest("cursor: not one of ours")
    return Place(int(form[1]), form[2])
