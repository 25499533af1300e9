"""What is done to many scans at once: scan again after a change of model, replay dead letters, purge. Each may be repeated.

A scan made here has an id that follows from the old one's: done twice, or by two people at once, it is the same scan. Once that
was purged it is another, for it ends anew, and its callback is named after it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from worker.errors import BadRequest, NoSuchScan, QueueFull, UnreadableRecord
from worker.queue.desk import Desk
from worker.queue.places import those_within
from worker.queue.quotas import Quotas
from worker.queue.record import Purge, Record, Submission, Submitted, unpack
from worker.queue.requests import Priority

OnLooked = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redone:
    """``old`` scanned again as ``new``; not ``new.created``: that was done before, or is refused (``new.refusal``)."""

    old: str
    new: Submitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """``owner`` None: everybody's scans. ``on_looked`` is told how many more records were looked at.

    ``quotas``: every new scan is counted against the day of the owner whose it is; None for the operator, who is not counted.
    """

    desk: Desk
    owner: str | None = None
    quotas: Quotas | None = None
    on_looked: OnLooked = lambda count: None

    def rescan(self, model_sha256: str, *, priority: Priority = "low") -> Iterator[Redone]:
        """Submit anew the completed scans whose result is of another model. Callbacks are made again: the result is news.

        Left out: a scan that was scanned again already (the newer one counts), all but the latest of requests that were equal in
        everything, and watches, whose streams are over. Those for the same bytes cost one scan, by the cache. Raises BadRequest.
        """
        for records in self._of_other_models(model_sha256):
            yield from self._again(records, f"rescan:{model_sha256}", priority)

    def rescannable(self, model_sha256: str) -> int:
        """How many new scans ``rescan`` would make. Raises BadRequest."""
        found = self._of_other_models(model_sha256)
        return sum(len(self._missing(_again_all(records, f"rescan:{model_sha256}", None))) for records in found)

    def _of_other_models(self, model_sha256: str) -> Iterator[list[Record]]:
        """Those that ``rescan`` is about, in batches, whether they were scanned again for this model or not."""
        if len(model_sha256) != 64 or set(model_sha256) - set("0123456789abcdef"):
            raise BadRequest("a model is named by its SHA-256: 64 hexadecimal digits")
        replaced: set[str] = set()
        met: set[tuple[str, str]] = set()

        def is_wanted(record: Record) -> bool:
            if record.retry_of and (record.id in replaced or record.state not in ("failed", "cancelled")):
                replaced.add(record.retry_of)
            if record.request.kind == "watch" or record.id in replaced or record.state != "completed" or record.report is None:
                return False
            request = (record.owner, record.request.body_sha256())
            if request in met:
                return False
            met.add(request)
            return _is_of_another(record.report, model_sha256)

        for records in self._batches(self.desk.index_of(self.owner)):
            yield [record for record in records if is_wanted(record)]

    def replay_dead(self, *, among: int | None = None) -> Iterator[Redone]:
        """Submit anew the dead letters that were not before; ``among`` the latest so many of everybody's, None: all.

        Which are another owner's, the lists tell: their records are not read.
        """
        redis, own, left = self.desk.records.redis, self.desk.index_of(self.owner), among
        for found in self.desk.batches(self.desk.records.key("dead")):
            ids = found[:left]
            yield from self.replay(ids if self.owner is None else those_within(redis, own, ids))
            self.on_looked(len(ids))
            if left is not None and (left := left - len(ids)) <= 0:
                return

    def replay(self, scan_ids: Sequence[str]) -> Iterator[Redone]:
        """Submit anew those of these scans that are dead letters and were not before."""
        dead = [record for record in self.desk.records.get_many(scan_ids) if record.dead and self.owner in (None, record.owner)]
        yield from self._again(dead, "replay", None)

    def replays(self, scan_ids: Sequence[str]) -> dict[str, str]:
        """The scan that each of these was replayed as; those that were not are left out."""
        named = {record.id: _id_again(record, "replay") for record in self.desk.records.get_many(scan_ids)}
        there = self.desk.records.states(list(named.values()), self.owner)
        return {old: new for (old, new), state in zip(named.items(), there, strict=True) if state is not None}

    def purge(self, wanted: Purge, *, really: bool) -> int:
        """How many ended scans were (or, not ``really``, would be) forgotten; see ``Records.purge``."""
        purged = 0
        for ids in self.desk.batches(self.desk.index_of(self.owner)):
            purged += self.desk.records.purge(ids, wanted, really=really)
            self.on_looked(len(ids))
        return purged

    def _batches(self, index: str) -> Iterator[list[Record]]:
        for ids in self.desk.batches(index):
            yield self.desk.records.get_many(ids)
            self.on_looked(len(ids))

    def _again(self, records: Sequence[Record], why: str, priority: Priority | None) -> Iterator[Redone]:
        """Submit what is not there yet. Those of these that were forgotten meanwhile are left out."""
        submissions = _again_all(records, why, priority)
        made = self._sent(self._missing(submissions))
        for record, submission in zip(records, submissions, strict=True):
            new = made.get(submission.id) or Submitted(id=submission.id, created=False)
            if not isinstance(new.refusal, NoSuchScan):
                yield Redone(old=record.id, new=new)

    def _missing(self, submissions: Sequence[Submission]) -> list[Submission]:
        there = self.desk.records.states([submission.id for submission in submissions])
        return [submission for submission, state in zip(submissions, there, strict=True) if state is None]

    def _sent(self, submissions: Sequence[Submission]) -> dict[str, Submitted]:
        """What came of each, by its id. Of one owner's, the first are taken that the day has room for; the others are refused."""
        refused: dict[str, QueueFull] = {}
        counted: list[Submission] = []
        days: dict[str, int] = {}
        made: dict[str, Submitted] = {}
        try:
            for submission in submissions:
                if submission.owner in refused:
                    continue
                try:
                    if self.quotas is not None:
                        days[submission.id] = self.quotas.scans(submission.owner)
                    counted.append(submission)
                except QueueFull as exc:
                    refused[submission.owner] = exc
            made = {submission.id: one for submission, one in zip(counted, self.desk.send(counted), strict=True)}
        finally:
            new = {one.id for one in made.values() if one.created}
            self._give_back((one.owner, days[one.id]) for one in counted if one.id in days and one.id not in new)
        others = [submission for submission in submissions if submission.owner in refused and submission.id not in made]
        return made | {one.id: Submitted(id=one.id, created=False, refusal=refused[one.owner]) for one in others}

    def _give_back(self, counted: Iterable[tuple[str, int]]) -> None:
        """Scans by their owners and the days that they were counted on."""
        if self.quotas is not None:
            for (owner, day), count in Counter(counted).items():
                self.quotas.give_back(owner, day, count)


def _is_of_another(stored: bytes, model_sha256: str) -> bool:
    """A result that this version cannot read is not of its model."""
    try:
        model = unpack(stored).model
    except UnreadableRecord:
        return True
    return model is not None and model.sha256 != model_sha256


def _again_all(records: Sequence[Record], why: str, priority: Priority | None) -> list[Submission]:
    changed = {"idempotency_key": None} | ({"priority": priority} if priority else {})
    return [
        Submission(
            request=record.request.model_copy(update=changed), owner=record.owner, id=_id_again(record, why), retry_of=record.id
        )
        for record in records
    ]


def _id_again(record: Record, why: str) -> str:
    """The first of a fixed row that was not purged."""
    row = (f"{why}:{record.id}", *(f"{why}:{record.id}:{number}" for number in range(1, len(record.purged) + 1)))
    ids = (hashlib.sha256(named.encode()).hexdigest()[:32] for named in row)
    return next(scan_id for scan_id in ids if scan_id not in record.purged)
