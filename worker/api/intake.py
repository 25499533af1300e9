"""Uploads: a request's body, streamed piece by piece into the store, and whose it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from threading import Lock

import anyio
import anyio.from_thread
import anyio.to_thread
from redis import Redis

from worker.api.problems import HttpError
from worker.artifacts import ArtifactStore
from worker.errors import EmptyMedia, QueueFull
from worker.queue.connection import translated
from worker.queue.fetching import upload_key
from worker.report import new_id

STALL_S = 30.0
LEAST_BYTES_PER_S = 16 << 10
"""A body that comes more slowly than this, after its first half minute, is given up."""
AT_ONCE = 16
AT_ONCE_OF_ONE = 8
WAITING_OF_ONE = 1000
"""Uploads of one owner that are kept at a time."""

# One more upload. The set lasts as long as what is kept longest, which need not be the newest.
_NOTE = """
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
local latest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('EXPIREAT', KEYS[1], math.ceil(tonumber(latest[2])) + 1)
"""


class Intake:
    """Takes uploads in; ``NS:uploads:OWNER`` (sorted set) holds their ids by the time they are kept until."""

    def __init__(
        self, redis: Redis, namespace: str, store: ArtifactStore, *, max_bytes: int, keep_s: float, stall_s: float = STALL_S
    ) -> None:
        self._redis, self._namespace, self._store = redis, namespace, store
        self._note = redis.register_script(_NOTE)
        self._max_bytes, self._keep_s, self._stall_s = max_bytes, keep_s, stall_s
        self._lock, self._busy = Lock(), Counter[str]()
        self._threads: anyio.CapacityLimiter | None = None

    def has(self, owner: str, upload_id: str) -> bool:
        """Whether this owner uploaded it, and it is still kept."""
        with translated():
            until_s = self._redis.zscore(self._key(owner), upload_id)
            return until_s is not None and float(until_s) > self._now_s()

    async def take(self, owner: str, body: AsyncIterator[bytes]) -> tuple[str, int]:
        """Keep a body; its id and size in bytes. Raises QueueFull, MediaTooLarge, EmptyMedia, StorageError, HttpError (408)."""
        with self._slot(owner):
            self._threads = self._threads or anyio.CapacityLimiter(AT_ONCE)
            await anyio.to_thread.run_sync(self._refuse_hoards, owner, limiter=self._threads)
            return await anyio.to_thread.run_sync(self._store_body, owner, body, limiter=self._threads)

    def _store_body(self, owner: str, body: AsyncIterator[bytes]) -> tuple[str, int]:
        with translated():
            upload_id, until_s, size = new_id(), self._now_s() + self._keep_s, 0
        began = time.monotonic()
        with self._store.writer(upload_key(upload_id), expires_at=until_s, max_bytes=self._max_bytes) as writing:
            while piece := anyio.from_thread.run(self._next, body, began, size):
                writing.write(piece)
                size += len(piece)
            if size == 0:
                raise EmptyMedia("the body has no bytes")
        with translated():
            self._note(keys=[self._key(owner)], args=[upload_id, until_s])
        return upload_id, size

    async def _next(self, body: AsyncIterator[bytes], began: float, size: int) -> bytes:
        """The next piece that holds something; nothing at the end."""
        try:
            with anyio.fail_after(self._stall_s):
                async for piece in body:
                    if piece:
                        break
                else:
                    return b""
        except TimeoutError as exc:
            raise _slow() from exc
        took_s = time.monotonic() - began
        if took_s > self._stall_s and size < LEAST_BYTES_PER_S * (took_s - self._stall_s):
            raise _slow()
        return piece

    def _refuse_hoards(self, owner: str) -> None:
        with translated(), self._redis.pipeline() as pipe:
            pipe.zremrangebyscore(self._key(owner), "-inf", self._now_s())
            pipe.zcard(self._key(owner))
            _, kept = pipe.execute()
        if kept >= WAITING_OF_ONE:
            raise QueueFull(f"more than {WAITING_OF_ONE} uploads are kept for this owner", retry_after_s=3600)

    @contextmanager
    def _slot(self, owner: str) -> Iterator[None]:
        with self._lock:
            if self._busy.total() >= AT_ONCE or self._busy[owner] >= AT_ONCE_OF_ONE:
                raise QueueFull("too many uploads at a time", retry_after_s=10)
            self._busy[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy[owner] -= 1
                self._busy += Counter()

    def _now_s(self) -> float:
        """Unix time by Redis's clock, which forgets the set, and by which the store is swept."""
        seconds, micros = self._redis.time()
        return float(seconds + micros / 1e6)

    def _key(self, owner: str) -> str:
        return f"{self._namespace}:uploads:{owner}"


def _slow() -> HttpError:
    return HttpError(408, "the body came too slowly", {"Connection": "close"})
