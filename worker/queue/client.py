"""The Python client: hand scans over to the workers, wait for them, read their reports.

    from worker.queue import ScanClient

    with ScanClient("redis://127.0.0.1:6379/0", owner="moderation") as client:
        scan_id = client.enqueue("https://example.org/clip.mp4", priority="live")
        client.wait([scan_id], timeout_s=600)
        print(client.result(scan_id).verdict)

It speaks to Redis itself and is trusted with all of it; whoever is not uses the HTTP API. A Redis that is away is waited for.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from worker.errors import BadRequest, Conflict, NoSuchScan, QueueFull
from worker.queue.access import checked_owner
from worker.queue.connection import connect, translated
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.record import FINAL, State, Submission, Submitted, Terms
from worker.queue.records import Records
from worker.queue.requests import Priority, ScanRequest, read_request
from worker.queue.waiting import Waiting, wait_for
from worker.report import Report

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.watch.events import WatchEvent

Item = str | Path | ScanRequest | Mapping[str, Any]
"""An address, a path (made absolute), a request, or a request's JSON."""

AT_ONCE = 500
ROOM_S, ROOM_MAX_S = 0.2, 5.0
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """``progress`` from 0 to 1."""

    id: str
    state: State
    progress: float

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


class ScanClient:
    """Scans of one owner. May be shared by threads; a context manager, or ``close`` it."""

    def __init__(
        self,
        url: str = "redis://127.0.0.1:6379/0",
        owner: str = "default",
        *,
        username: str | None = None,
        password: str | None = None,
        tls_ca: Path | None = None,
        namespace: str = "vf",
        terms: Terms | None = None,
        timeout_s: float = 10,
        patience_s: float = 60,
    ) -> None:
        """Nothing is sent yet. ``terms`` are the workers' (``queue`` in their settings), the defaults when None.

        ``patience_s``: how long every call rides out a Redis that is away. Raises ConfigError for a URL that is none or has a
        password in it, BadRequest for an owner.
        """
        self.owner = checked_owner(owner)
        self._redis = connect(
            url=url, username=username, password=password, tls_ca=tls_ca, timeout_s=timeout_s, patience_s=patience_s
        )
        self._desk = Desk(Records(self._redis, namespace, terms or Terms()), Doorbells(self._redis, namespace))

    @classmethod
    def from_settings(cls, settings: Settings, owner: str = "default") -> Self:
        """With the worker's settings (``worker.settings.load_settings``). Raises ConfigError."""
        from worker.queue.front import build_terms

        redis = settings.redis
        return cls(
            redis.url,
            owner,
            username=redis.username,
            password=redis.password.get_secret_value() if redis.password else None,
            tls_ca=redis.tls_ca,
            namespace=redis.namespace,
            terms=build_terms(settings),
            timeout_s=redis.timeout_s,
            patience_s=redis.patience_s,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._redis.close()

    def enqueue(
        self,
        source: Item,
        *,
        kind: Literal["scan", "watch"] = "scan",
        priority: Priority = "batch",
        callback_url: str | None = None,
        external_id: str | None = None,
        idempotency_key: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The scan's id; of the older scan where ``idempotency_key`` names one.

        ``options`` are those of the wire contract (``max_frames``, ``fps``, ``strategy``...; of a watch, which is for the address
        of a stream, ``window_s``, ``hop_s``, ``max_duration_s``). The keywords are for a plain
        source; a whole request has its own. Raises BadRequest, Conflict, QueueFull, RedisDown.
        """
        told = {"callback_url": callback_url, "external_id": external_id, "idempotency_key": idempotency_key}
        asked = {"kind": kind, "priority": priority, "options": dict(options or {}), **told}
        with translated():
            return self._desk.submit_one(_request(source, asked), self.owner).id

    def enqueue_many(
        self,
        sources: Iterable[Item],
        *,
        kind: Literal["scan", "watch"] = "scan",
        priority: Priority = "batch",
        callback_url: str | None = None,
        options: Mapping[str, Any] | None = None,
        room_s: float = 0.0,
    ) -> Iterator[Submitted]:
        """One answer for each source, in order; a refusal (``.refusal``) stops none of the others.

        Sources are taken as they are asked for, some hundred at a time, so that there may be any number of them. ``room_s``: how
        long to wait, all in all, where the queue or the owner has as many scans as may wait. Raises RedisDown: those not answered
        may have been enqueued; with an ``idempotency_key`` in each request it is safe to begin again.
        """
        asked = {"kind": kind, "priority": priority, "callback_url": callback_url, "options": dict(options or {})}
        room = _Room(room_s)
        left = iter(sources)
        while batch := list(islice(left, AT_ONCE)):
            yield from self._enqueue_batch([_tried(source, asked) for source in batch], room)

    def _enqueue_batch(self, requests: Sequence[ScanRequest | BadRequest], room: _Room) -> list[Submitted]:
        submissions = [Submission(request=one, owner=self.owner) if isinstance(one, ScanRequest) else one for one in requests]
        answers: dict[int, Submitted] = {
            number: Submitted(id="", created=False, refusal=one)
            for number, one in enumerate(submissions)
            if isinstance(one, BadRequest)
        }
        while True:
            open_ones = {number: one for number, one in enumerate(submissions) if number not in answers}
            with translated():
                made = self._desk.send(cast(list[Submission], list(open_ones.values())))
            answers |= dict(zip(open_ones, made, strict=True))
            full = [number for number, answer in answers.items() if isinstance(answer.refusal, QueueFull)]
            if not full or not room.wait():
                return [answers[number] for number in range(len(submissions))]
            for number in full:
                del answers[number]

    def status(self, scan_id: str) -> Status:
        """Raises NoSuchScan, RedisDown."""
        with translated():
            (found,) = self._desk.records.states([scan_id], self.owner)
        if found is None:
            raise NoSuchScan(f"no scan {scan_id}")
        return Status(id=scan_id, state=cast(State, found[0]), progress=found[1])

    def wait(
        self,
        scan_ids: Iterable[str],
        timeout_s: float | None = None,
        on_progress: Callable[[Waiting], None] = lambda waiting: None,
    ) -> dict[str, State | None]:
        """Until all have ended or the time is up: the state of each as last seen; None: there is no such scan (any more).

        Raises RedisDown: it stayed away for the client's patience and, where there is a ``timeout_s``, until its end.
        """
        return wait_for(self._desk.records, scan_ids, self.owner, timeout_s, on_progress)

    def report(self, scan_id: str) -> Report:
        """What is known now, in whatever state. Raises NoSuchScan, RedisDown."""
        with translated():
            return self._desk.report(scan_id, self.owner)

    def result(self, scan_id: str) -> Report:
        """The report of a scan that has ended, a human's decision laid over it. Raises NoSuchScan, RedisDown; Conflict before."""
        report = self.report(scan_id)
        if report.status not in FINAL:
            raise Conflict(f"scan {scan_id} is {report.status}: wait for it first")
        return report

    def events(self, scan_id: str, after: int = -1, limit: int = 1000) -> tuple[WatchEvent, ...]:
        """What a watch has told behind that number, so far. Raises NoSuchScan, RedisDown; Conflict for a scan."""
        with translated():
            return self._desk.events(scan_id, self.owner, after=after, limit=limit)[1].events

    def cancel(self, scan_id: str) -> State:
        """The state now: ``cancelled``, ``running`` (it ends within seconds) or a final one. A watch that has begun is then
        ``completed``, with what it saw. Raises NoSuchScan, RedisDown."""
        with translated():
            return cast(State, self._desk.cancel(scan_id, self.owner))

    def retry(self, scan_id: str) -> str:
        """A scan that has ended once more, as a new one (its id) with ``retry_of``. Raises NoSuchScan, QueueFull, RedisDown;
        Conflict before its end."""
        with translated():
            return self._desk.retry(scan_id, self.owner).id


class _Room:
    """Waits for room in a full queue, until the time for that is used up."""

    def __init__(self, room_s: float) -> None:
        self._left_s = room_s
        self._pause_s = ROOM_S

    def wait(self) -> bool:
        if self._left_s <= 0:
            return False
        pause_s = min(self._pause_s, self._left_s)
        time.sleep(pause_s)
        self._left_s -= pause_s
        self._pause_s = min(ROOM_MAX_S, 1.5 * self._pause_s)
        return True


def _tried(source: Item, asked: Mapping[str, Any]) -> ScanRequest | BadRequest:
    try:
        return _request(source, asked)
    except BadRequest as exc:
        return exc


def _request(source: Item, asked: Mapping[str, Any]) -> ScanRequest:
    """Raises BadRequest."""
    if isinstance(source, ScanRequest):
        return source
    if isinstance(source, Mapping):
        return read_request(dict(source))
    return read_request({"source": source_of(source), **asked})


def source_of(source: str | Path) -> dict[str, str]:
    """The request's source: an address where it looks like one, else a path, made absolute. Raises BadRequest."""
    text = os.fspath(source)
    if not isinstance(source, Path) and _SCHEME.match(text):
        return {"url": text}
    try:
        path = Path(text).absolute()
        # ``..`` as the file system means it: behind a link it leads above the link's target.
        return {"path": str(path.parent.resolve() / path.name if ".." in path.parts else path) if text else ""}
    except (OSError, RuntimeError, ValueError) as exc:
        raise BadRequest("source.path: there can be no such path") from exc
