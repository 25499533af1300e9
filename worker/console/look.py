"""One look at the queue, its workers and some scans, in a handful of questions to Redis: what live pages are made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError

from worker.errors import ConfigError, NoSuchScan, RedisDown, UnreadableRecord
from worker.queue.backlog import Backlog, read_backlog
from worker.queue.connection import translated
from worker.queue.desk import Desk
from worker.queue.record import Record
from worker.queue.roster import Roster
from worker.watch.events import WatchEvent

EVENTS_SHOWN = 20
"""Of a watch, the latest so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker last said. ``is_ready``: its model has run."""

    name: str
    host: str
    queues: tuple[str, ...]
    is_ready: bool
    scan: str | None
    scans: int
    memory_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    backlog: Backlog
    workers: tuple[Worker, ...]

    @property
    def waiting(self) -> int:
        return sum(self.backlog.waiting.values())

    @property
    def running(self) -> int:
        return sum(self.backlog.running.values())

    @property
    def ready(self) -> int:
        return sum(worker.is_ready for worker in self.workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """How far a scan is. ``events``: of a watch, the latest."""

    id: str
    state: str
    progress: float
    stage: str
    attempt: int
    is_final: bool
    cancel: bool
    is_watch: bool = False
    events: tuple[WatchEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """``queue`` None: Redis does not answer, or refuses us, and nothing is known. ``scans``: None for one that is gone."""

    queue: Queue | None = None
    scans: Mapping[str, Scan | None]


Looker = Callable[[Collection[str]], Look]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookout:
    """Looks when it is called, with the ids of scans that somebody watches."""

    desk: Desk
    roster: Roster

    def __call__(self, scan_ids: Collection[str]) -> Look:
        try:
            with translated():
                return Look(queue=self._queue(), scans=self._scans(scan_ids))
        except (RedisDown, ConfigError, RedisError):
            return Look(scans={})

    def _queue(self) -> Queue:
        return Queue(
            backlog=read_backlog(self.desk.records),
            workers=tuple(_worker(name, facts) for name, facts in sorted(self.roster.live().items())),
        )

    def _scans(self, scan_ids: Collection[str]) -> dict[str, Scan | None]:
        found = {record.id: self.scan(record) for record in self.desk.records.get_many(list(scan_ids))} if scan_ids else {}
        return {scan_id: found.get(scan_id) for scan_id in scan_ids}

    def scan(self, record: Record) -> Scan:
        """How far it is."""
        return Scan(
            id=record.id,
            state=record.state,
            progress=record.progress,
            stage=record.stage,
            attempt=record.attempt,
            is_final=record.is_final,
            cancel=record.cancel,
            is_watch=record.request.kind == "watch",
            events=self._events(record),
        )

    def _events(self, record: Record) -> tuple[WatchEvent, ...]:
        """The latest of a watch, the newest first."""
        if record.request.kind != "watch":
            return ()
        try:
            _, so_far = self.desk.events(record.id, None, limit=0)
            _, page = self.desk.events(record.id, None, after=max(-1, so_far.count - EVENTS_SHOWN - 1), limit=2 * EVENTS_SHOWN)
        except (NoSuchScan, UnreadableRecord):  # forgotten since it was looked up, or of another version
            return ()
        return page.events[::-1]


def _worker(name: str, facts: Mapping[str, object]) -> Worker:
    """Workers of other versions may say less."""
    queues, memory, scans = facts.get("queues"), facts.get("memory_mib"), facts.get("scans")
    return Worker(
        name=name,
        host=str(facts.get("host", "")),
        queues=tuple(str(queue) for queue in queues) if isinstance(queues, list) else (),
        is_ready=bool(facts.get("ready")),
        scan=str(facts["scan"]) if facts.get("scan") else None,
        scans=scans if isinstance(scans, int) else 0,
        memory_mib=float(memory) if isinstance(memory, int | float) else 0.0,
    )
