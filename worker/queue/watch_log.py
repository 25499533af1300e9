"""What a watch leaves in Redis as it goes: a cursor to go on from, and its events, each once.

Keys below the namespace: ``cursor:ID`` (JSON) and ``crops:ID`` (names of kept crops), until the watch ends; ``events:ID``
(list of JSON, the latest ``EVENTS_KEPT``); and in ``scan:ID`` how many ``windows`` and ``events`` there were. An event is owed as
a callback from the same moment.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis import Redis

from worker.errors import DamagedRecord, UnreadableRecord
from worker.queue.connection import scripts_of
from worker.queue.record import Claim, Record
from worker.types import Json
from worker.watch.events import WatchEvent, WindowResult

EVENTS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsPage:
    """Events in the order of their numbers. ``oldest``: number of the first one that is still kept; ``count``: how many there
    were so far."""

    events: tuple[WatchEvent, ...]
    oldest: int
    count: int


class WatchLog:
    """Written by the worker that holds the watch's attempt, read by whoever may see the scan."""

    def __init__(self, redis: Redis, namespace: str = "vf", *, kept: int = EVENTS_KEPT) -> None:
        self._redis, self._namespace, self._kept = redis, namespace, kept
        self._store, self._note, self._read = scripts_of(redis, ("watched", "crops", "events")).values()

    def cursor(self, scan_id: str) -> Json | None:
        """Where to go on; None: at the beginning. Raises DamagedRecord."""
        stored = cast(bytes | None, self._redis.get(f"{self._namespace}:cursor:{scan_id}"))
        try:
            found: Any = None if stored is None else json.loads(stored)
            if not isinstance(found, dict | None):
                raise ValueError("no object")
        except (ValueError, RecursionError) as exc:
            raise DamagedRecord(f"the cursor of scan {scan_id} is no JSON object") from exc
        return found

    def store(
        self, claim: Claim, record: Record, window: WindowResult, events: Sequence[WatchEvent], cursor: Json, progress: float
    ) -> bool:
        """Keep a window's events and the cursor behind it, both or neither, and only once; True: the watch is to be cancelled.

        Raises LeaseLost where another attempt has taken over, DamagedRecord where this is not the next window.
        """
        told = [
            value
            for event in events
            for value in (event.number, event.kind, event.model_dump_json(), callback_data(record, event))
        ]
        args = [claim.id, claim.attempt, window.number, json.dumps(cursor), f"{progress:.3f}", self._kept, *told]
        answer = self._store(args=[self._namespace, *args])
        claim.refuse_lost(answer)
        if answer == b"gap":
            raise DamagedRecord(f"scan {claim.id}: window {window.number} is not the one after the last that was stored")
        return bool(answer == b"cancel")

    def note_crops(self, claim: Claim, names: Collection[str]) -> None:
        """These evidence crops are kept. More than the report will name: a later slice may find better ones. Raises LeaseLost."""
        claim.refuse_lost(self._note(args=[self._namespace, claim.id, claim.attempt, *names]))

    def crops(self, scan_id: str) -> frozenset[str]:
        found = cast(set[bytes], self._redis.smembers(f"{self._namespace}:crops:{scan_id}"))
        return frozenset(name.decode() for name in found)

    def page(self, scan_id: str, *, after: int = -1, limit: int = 1000) -> EventsPage:
        """Up to ``limit`` events with higher numbers than ``after``, without fields that only a newer version knows.

        Raises UnreadableRecord.
        """
        count, kept, *found = cast(list[Any], self._read(args=[self._namespace, scan_id, after, limit]))
        try:
            events = tuple(WatchEvent.model_validate_json(one, extra="ignore") for one in found)
        except ValueError as exc:
            raise UnreadableRecord(f"the events of scan {scan_id} were stored by another version of veriframe") from exc
        return EventsPage(events=events, oldest=count - kept, count=count)


def callback_data(record: Record, event: WatchEvent) -> str:
    """What a callback tells of an event; empty where nobody wants one."""
    if not record.request.callback_url:
        return ""
    about = {"id": record.id, "retry_of": record.retry_of, "external_id": record.request.external_id}
    told = about | event.model_dump(mode="json", exclude={"kind"})
    return json.dumps(told, separators=(",", ":"))
