"""Scan records in Redis: the one truth about every scan. Each change is one script, compare-and-set on the attempt's number.

Keys below the namespace: ``scan:ID`` (hash), ``waiting`` (ID -> when its doorbell is looked for), ``queued:QUEUE`` (the same by
queue: ID -> since when it is due, inf where it follows another), ``leases`` (ID -> when the running attempt is given up),
``index[:OWNER]`` (ID -> created), ``dead``, ``idempotency:OWNER:HASH``, ``result:KEY`` and ``lead:KEY`` (the scan that has, or
makes, the result of the same bytes, model and options), ``followers:ID``, ``open`` (waiting and running scans by owner),
``override:OWNER:SHA256[:PART]``, ``callback:EVENT`` and ``callbacks``; of a watch also those of ``worker.queue.watch_log``. All
times are Redis's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

from redis import Redis
from redis.exceptions import NoScriptError

from worker.errors import Conflict, LeaseLost, NoSuchScan, QueueError, QueueFull, RedisDown, UnreadableRecord
from worker.queue.connection import DOWN, scripts_of
from worker.queue.record import (
    GLANCED,
    Claim,
    Ended,
    Glance,
    Purge,
    Record,
    Settled,
    Submission,
    Submitted,
    Terms,
    found_record,
    pack,
    progress_of,
    read_glance,
)
from worker.queue.requests import QUEUES, WATCH
from worker.queue.tally import tell_failed, tell_finished
from worker.report import Report
from worker.telemetry.port import SILENT, Telemetry

log = logging.getLogger(__name__)

NEAR_AGES = 8
"""Parts of the index of near media (``worker.queue.near``), each forgotten whole."""
TIMES_RESTARTED = 10
TIDIED = 64
"""So many of the oldest of each queue are compared with what waits at a time."""
PASSED_ON_S = 20
"""Then a worker of another version is looked for: no playlist that is watched is shorter by much. Later it waits for a quarter of
the time since the first of these, and ``LONGEST_UNREAD_S`` at most."""
LONGEST_UNREAD_S = 300
LONGEST_PASSED_ON_S = 6 * 3600
"""Longer than workers of two versions should run beside each other."""
LONGEST_UNWANTED_S = 300
"""For a worker that could write the report of a watch that was cancelled; until then it counts among its owner's."""
SCRIPTS = (
    "submit", "claim", "renew", "enter", "settle", "finish", "fail", "hand_back", "pass_on", "cancel", "expire", "tidy", "forget",
    "purge",
)  # fmt: skip


class Records:
    """All that may be done to scan records. Methods with ``attempt`` raise LeaseLost where another attempt has taken over.

    ``telemetry`` is told how scans end here.
    """

    def __init__(self, redis: Redis, namespace: str = "vf", terms: Terms | None = None, telemetry: Telemetry = SILENT) -> None:
        self.redis, self.namespace, self.terms = redis, namespace, terms or Terms()
        self._telemetry = telemetry
        self._scripts = scripts_of(redis, SCRIPTS)

    def key(self, *parts: str) -> str:
        return ":".join((self.namespace, *parts))

    # --- by those who want something scanned

    def submit(self, submissions: Sequence[Submission]) -> list[Submitted]:
        """Record scans, in one round trip. One that is refused says so and stops none of the others."""
        answers = self._call_each("submit", [self._submit_arguments(submission) for submission in submissions])
        return [_submitted(submission.id, answer) for submission, answer in zip(submissions, answers, strict=True)]

    def known(self, submission: Submission) -> Submitted | None:
        """The scan that the idempotency key names, or the refusal of another body; None: it has none, or it is new.

        A short cut past what new scans are asked first; whether this one is new is decided when it is submitted.
        """
        key = submission.request.idempotency_key
        stored = self.redis.get(self.key("idempotency", submission.owner, _hashed(key))) if key else None
        if stored is None:
            return None
        body, scan_id = cast(bytes, stored).decode().split(" ")
        if not self.redis.exists(self.key("scan", scan_id)):
            return None
        return _submitted(scan_id, (b"known" if body == submission.body_sha256() else b"conflict", scan_id.encode()))

    def _submit_arguments(self, submission: Submission) -> list[Any]:
        request, terms = submission.request, self.terms
        idempotency = _hashed(request.idempotency_key) if request.idempotency_key else ""
        return [
            self.namespace,
            submission.id,
            submission.owner,
            request.queue,
            request.coded(),
            request.external_id or "",
            request.callback_url or "",
            idempotency,
            submission.body_sha256() if idempotency else "",
            submission.retry_of or "",
            _ms(terms.ring_again_s),
            terms.idempotency_s,
            terms.max_backlog,
            terms.open_scans,
        ]

    def cancel(self, scan_id: str) -> Ended:
        """A waiting scan is cancelled at once; a running one when its process next tells its progress, or by force 3 s after its
        worker's next renewal. Raises NoSuchScan."""
        (how,) = self.cancel_each([scan_id])
        if how.how == "gone":
            raise NoSuchScan(f"no scan {scan_id}")
        return how

    def cancel_each(self, scan_ids: Sequence[str]) -> list[Ended]:
        """``cancel`` of many, in one round trip; ``gone``: no such scan."""
        answers = self._call_each("cancel", [[self.namespace, scan_id, self.terms.keep_s] for scan_id in scan_ids])
        return [_told(answer) for answer in answers]

    def get(self, scan_id: str, owner: str | None = None) -> Record:
        """Raises NoSuchScan, for a scan of another than ``owner`` too, whether it can be read or not; UnreadableRecord."""
        (found,) = self.get_each([scan_id], owner)
        if isinstance(found, Record):
            return found
        raise found

    def get_each(self, scan_ids: Sequence[str], owner: str | None = None) -> list[Record | QueueError]:
        """``get`` of many, in one round trip: each, or what that would raise."""
        with self.redis.pipeline(transaction=False) as pipe:
            for scan_id in scan_ids:
                pipe.hgetall(self.key("scan", scan_id))
            return [found_record(scan_id, stored, owner) for scan_id, stored in zip(scan_ids, pipe.execute(), strict=True)]

    def get_many(self, scan_ids: Sequence[str]) -> list[Record]:
        """Those that are there and that this version can read, in the order asked for."""
        found = self.get_each(scan_ids)
        for one in found:
            if isinstance(one, UnreadableRecord):
                log.warning("passed over: %s", one)
        return [one for one in found if isinstance(one, Record)]

    def glances(self, scan_ids: Sequence[str]) -> list[Glance]:
        """``get_many`` without most of each record: neither request nor report leaves Redis."""
        with self.redis.pipeline(transaction=False) as pipe:
            for scan_id in scan_ids:
                pipe.hmget(self.key("scan", scan_id), *GLANCED)
            found = zip(scan_ids, pipe.execute(), strict=True)
        return [read_glance(scan_id, stored) for scan_id, stored in found if stored[0]]

    def states(self, scan_ids: Sequence[str], owner: str | None = None) -> list[tuple[str, float] | None]:
        """State and progress of each; None: no such scan, or another owner's."""
        with self.redis.pipeline(transaction=False) as pipe:
            for scan_id in scan_ids:
                pipe.hmget(self.key("scan", scan_id), "state", "progress", "owner")
            found = pipe.execute()
        seen = [state and (owner is None or whose == owner.encode()) for state, _, whose in found]
        told = [(state.decode(errors="replace") if state else "", progress_of(progress)) for state, progress, _ in found]
        return [one if is_seen else None for one, is_seen in zip(told, seen, strict=True)]

    def purge(self, scan_ids: Sequence[str], wanted: Purge, *, really: bool) -> int:
        """Forget those of these that have ended and are wanted, and all that hangs on them; how many. Not ``really``: only count.

        Decisions, the audit log and callbacks still owed stay: they say what they have to without the record.
        """
        states = " ".join(sorted(wanted.states))
        before = wanted.before_ms if wanted.before_ms is not None else "inf"
        asking = uuid4().hex
        told = [wanted.owner or "", states, before, int(wanted.dead_only), int(really), asking, NEAR_AGES]
        purged = self._call_each("purge", [[self.namespace, scan_id, *told] for scan_id in scan_ids]).count(b"purged")
        if really:
            with contextlib.suppress(*DOWN):  # what was done is told; the mark goes by itself
                self.redis.delete(self.key("purging", asking))
        return purged

    # --- by the worker that holds an attempt

    def claim(self, scan_id: str, worker: str) -> Claim | Ended:
        """Take the scan, or say why not (``running``, ``early``, ``following``, ``cancelled``, ``gone``, a final state; ``dead``:
        it has just failed, since its record cannot be read)."""
        answer = self._call("claim", scan_id, worker, _ms(self.terms.lease_s), _ms(self.terms.follow_s), self.terms.keep_s)
        if answer[0] == b"dead":
            tell_failed(self._telemetry, scan_id, _told(answer), "internal")
        if answer[0] != b"claimed":
            return _told(answer)
        _, attempt, adopts, queue = (part.decode() for part in answer)
        return Claim(id=scan_id, attempt=int(attempt), adopts=adopts or None, is_watch=queue == WATCH, worker=worker)

    def renew(self, claim: Claim) -> bool:
        """Keep the lease; True: the scan is to be cancelled."""
        answer = self._call("renew", claim.id, claim.attempt, _ms(self.terms.lease_s), claim.worker)
        claim.refuse_lost(answer)
        return bool(answer == b"cancel")

    def enter(self, claim: Claim, stage: str, progress: float) -> bool:
        """Say how far it is; True: the scan is to be cancelled."""
        answer = self._call("enter", claim.id, claim.attempt, stage, f"{progress:.3f}")
        claim.refuse_lost(answer)
        return bool(answer == b"cancel")

    def stage(self, scan_id: str) -> str:
        """The stage last told; empty where there is none."""
        return cast(bytes, self.redis.hget(self.key("scan", scan_id), "stage") or b"").decode()

    def stored_report(self, scan_id: str) -> bytes | None:
        """The packed report of a completed scan."""
        state, report = self.redis.hmget(self.key("scan", scan_id), "state", "report")
        return cast(bytes, report) if state == b"completed" else None

    def settle(self, claim: Claim, sha256: str, cache_key: str, *, anew: bool = False, waits: bool = True) -> Settled:
        """Say what the bytes are; a scan that follows another is back in the queue and not this worker's any more, unless it is
        not to wait yet. ``anew``: a result that is stored for them is of no use."""
        terms = self.terms
        told = (sha256, cache_key, _ms(terms.follow_s), terms.keep_s, int(anew), int(waits))
        answer = self._call("settle", claim.id, claim.attempt, *told)
        claim.refuse_lost(answer[0])
        if answer[0] == b"cached":
            return Settled(cached=answer[1])
        if answer[0] == b"follow" and not answer[1]:
            tell_failed(self._telemetry, claim.id, Ended(how="cancelled"), "")
        if answer[0] == b"follow":
            return Settled(follows=answer[1].decode(), ring=tuple(part.decode() for part in answer[2:]))
        return Settled()

    def finish(self, claim: Claim, report: Report) -> Ended:
        """Store the result: the scan is completed. Asked twice, the second time changes nothing."""
        told = ("verdict", "score", "calibrated", "start_s", "end_s")
        summary = json.dumps({name: getattr(report, name) for name in told})
        args = ("completed", pack(report), summary, "", self.terms.keep_s, self.terms.cache_s)
        ended = self._ended(claim, self._call("finish", claim.id, claim.attempt, *args))
        tell_finished(self._telemetry, claim, report)
        return ended

    def fail(
        self, claim: Claim, *, code: str, message: str, retryable: bool, sha256: str | None = None, wait_s: float = 0.0
    ) -> Ended:
        """``again`` after a back-off that doubles with each try (at least ``wait_s``, where a server asked for that), ``failed``,
        ``dead`` (attempts used up) or ``cancelled``; ``ended``: it had ended otherwise before, by this attempt."""
        terms = self.terms
        known = {} if sha256 is None else {"sha256": sha256}
        error = json.dumps({"code": code, "message": message, "retryable": retryable} | known)
        tried = (error, int(retryable), terms.max_attempts, terms.keep_s)
        backoff = (_ms(terms.backoff_s), _ms(terms.backoff_max_s), f"{random.uniform(0.5, 1):.3f}", _ms(wait_s))
        ended = self._ended(claim, self._call("fail", claim.id, claim.attempt, *tried, *backoff))
        tell_failed(self._telemetry, claim.id, ended, code)
        return replace(ended, code=code)

    def hand_back(self, claim: Claim, wait_s: float = 0.0) -> Ended:
        """Into the queue again without counting the attempt: the worker is going away, could not reach Redis, or is to wait."""
        ended = self._ended(claim, self._call("hand_back", claim.id, claim.attempt, self.terms.keep_s, _ms(wait_s)))
        tell_failed(self._telemetry, claim.id, ended, "")
        return ended

    def pass_on(self, claim: Claim, why: str, *, wait_s: float = PASSED_ON_S, full: tuple[float, int] = (0, 0)) -> Ended:
        """To another worker, which may be able to: ``queued``, at first for ``wait_s``, without counting the attempt; ``dead``
        where none was for hours, or disks were ``full`` for so long (s), so often; ``cancelled``: a watch that has begun."""
        error = json.dumps({"code": "internal", "message": why, "retryable": True})
        times = (wait_s, LONGEST_UNREAD_S, LONGEST_PASSED_ON_S, LONGEST_UNWANTED_S)
        told = (error, *map(_ms, times), self.terms.keep_s, _ms(full[0]), full[1])
        ended = self._ended(claim, self._call("pass_on", claim.id, claim.attempt, *told))
        tell_failed(self._telemetry, claim.id, ended, "internal")
        return ended

    # --- by the reconciler

    def expired(self) -> dict[str, int]:
        """Scans whose lease has run out, and when (ms)."""
        return {scan_id.decode(): int(at) for scan_id, at in self._until(None, "leases", 1000)}

    def expire(self, scan_id: str, lease_ms: int) -> Ended:
        """Take a scan from the worker that let its lease run out at ``lease_ms``; ``held``: it did not."""
        error = json.dumps({"code": LeaseLost.code, "message": "its worker was lost", "retryable": True})
        ended = self._run("expire", scan_id, lease_ms, error, self.terms.max_attempts, self.terms.keep_s)
        tell_failed(self._telemetry, scan_id, ended, LeaseLost.code)
        return ended

    def due(self, limit: int = 1000, by_ms: int | None = None) -> list[str]:
        """Waiting scans whose doorbell is to be looked for now, or was at ``by_ms``."""
        return [scan_id.decode() for scan_id, _ in self._until(by_ms, "waiting", limit)]

    def put_off(self, scan_ids: Iterable[str]) -> None:
        """Look for these doorbells again after ``ring_again_s``."""
        at = self.now_ms() + _ms(self.terms.ring_again_s)
        if wanted := dict.fromkeys(scan_ids, at):
            self.redis.zadd(self.key("waiting"), cast(Any, wanted), xx=True)

    def tidy(self, waiting: Sequence[str]) -> int:
        """Make ``queued:QUEUE`` what ``waiting`` says of these, and of the oldest in each; how many were not so. Workers of a
        version that does not know it let it drift while both are at work."""
        with self.redis.pipeline(transaction=False) as pipe:
            for queue in QUEUES if waiting else ():
                pipe.zmscore(self.key("queued", queue), list(waiting))
            found = pipe.execute()
        odd = [scan_id for scan_id, *at in zip(waiting, *found, strict=True) if all(one in (None, math.inf) for one in at)]
        return int(self._call("tidy", TIDIED, *odd))

    def priorities(self, scan_ids: Sequence[str]) -> dict[str, str]:
        """The queues of those that are there; of a record that names none (somebody altered it), the one that its request does,
        or ``low`` where that cannot be read either."""
        with self.redis.pipeline(transaction=False) as pipe:
            for scan_id in scan_ids:
                pipe.hmget(self.key("scan", scan_id), "state", "priority")
            found = zip(scan_ids, pipe.execute(), strict=True)
        named = {scan_id: (name or b"").decode(errors="replace") for scan_id, (state, name) in found if state}
        odd = [scan_id for scan_id, name in named.items() if name not in QUEUES]
        return named | dict.fromkeys(odd, "low") | {record.id: record.request.queue for record in self.get_many(odd)}

    def begun(self, scan_ids: Sequence[str]) -> set[str]:
        """Those of which there was an attempt, but for what the last one passed on."""
        with self.redis.pipeline(transaction=False) as pipe:
            for scan_id in scan_ids:
                pipe.hmget(self.key("scan", scan_id), "started_ms", "attempt", "passed_on")
            found = zip(scan_ids, pipe.execute(), strict=True)
        return {one for one, (started, attempt, passed_on) in found if started and attempt not in (passed_on or b"").split()[1:]}

    def forget(self, name: str, place: int, limit: int) -> tuple[int, int]:
        """Look at up to ``limit`` scans of a list from a place in it on, oldest first, and none too young to be gone; drop those
        that Redis has forgotten by itself. How many were looked at, and how many of them dropped."""
        looked_at, gone = self._call("forget", name, place, limit, self.now_ms() - _ms(self.terms.keep_s))
        return int(looked_at), int(gone)

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return seconds * 1000 + micros // 1000

    def now_s(self) -> float:
        return self.now_ms() / 1000

    # --- inside

    def _until(self, ms: int | None, name: str, limit: int) -> list[tuple[bytes, float]]:
        at = self.now_ms() if ms is None else ms
        found = self.redis.zrangebyscore(self.key(name), "-inf", at, start=0, num=limit, withscores=True)
        return cast(list[tuple[bytes, float]], found)

    def _call(self, name: str, *args: Any) -> Any:
        return self._scripts[name](args=[self.namespace, *args])

    def _call_each(self, name: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """One script many times, in one round trip. A Redis that was restarted under it has lost the script: all is sent again,
        so the script must bear that."""
        for _ in range(TIMES_RESTARTED):
            with self.redis.pipeline(transaction=False) as pipe:
                for arguments in calls:
                    self._scripts[name](args=arguments, client=pipe)
                with contextlib.suppress(NoScriptError):
                    return pipe.execute()
        raise RedisDown("Redis forgets scripts as soon as it has them")

    def _run(self, name: str, *args: Any) -> Ended:
        return _told(self._call(name, *args))

    def _ended(self, claim: Claim, answer: Sequence[bytes]) -> Ended:
        claim.refuse_lost(answer[0])
        return _told(answer)


def _told(answer: Sequence[bytes]) -> Ended:
    how, *ring = (part.decode(errors="replace") for part in answer)
    return Ended(how=how, ring=tuple(ring))


def _submitted(scan_id: str, answer: Sequence[bytes]) -> Submitted:
    how, detail = (part.decode() for part in answer)
    if how == "conflict":
        refusal = Conflict(f"the idempotency key was used for another request, scan {detail}")
        return Submitted(id=scan_id, created=False, refusal=refusal)
    if how == "full":
        whose = "the queue holds" if detail == "backlog" else "this owner has"
        full = QueueFull(f"{whose} as many scans as may wait", retry_after_s=30)
        return Submitted(id=scan_id, created=False, refusal=full)
    if how == "gone":
        return Submitted(id=scan_id, created=False, refusal=NoSuchScan(f"no scan {detail}"))
    return Submitted(id=detail, created=how in ("new", "again"))


def _hashed(idempotency_key: str) -> str:
    return hashlib.sha256(idempotency_key.encode()).hexdigest()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
