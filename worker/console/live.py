"""What everybody watches, asked for once: one poller looks at Redis for all viewers of live pages, while there are any."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import anyio.to_thread

from worker.console.look import Look, Looker
from worker.errors import QueueFull

EVERY_S = 1.0
MOST_VIEWERS = 256
MOST_OF_ONE = 16
"""Live pages of one key at a time; a browser opens six at most."""


class Board:
    """Belongs to the event loop that serves. What a look found is replaced whole, never changed."""

    def __init__(self, look: Looker, *, every_s: float = EVERY_S) -> None:
        self._look, self._every_s = look, every_s
        self._watched, self._viewers = Counter[str](), Counter[str]()
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._number, self._seen = 0, Look(scans={})

    def refuse_crowds(self, viewer: str) -> None:
        """Raises QueueFull."""
        if self._viewers.total() >= MOST_VIEWERS or self._viewers[viewer] >= MOST_OF_ONE:
            raise QueueFull("too many live pages are open", retry_after_s=30)

    @asynccontextmanager
    async def viewing(self, viewer: str, scan_ids: Collection[str] = ()) -> AsyncIterator[None]:
        """While it is open, these scans are looked at as well."""
        self._viewers[viewer] += 1
        self._watched.update(scan_ids)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._viewers[viewer] -= 1
            self._watched.subtract(scan_ids)
            self._viewers, self._watched = +self._viewers, +self._watched
            if not self._viewers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def after(self, number: int) -> tuple[int, Look]:
        """The next look that is newer than this one, and its number; the first number is 0."""
        while self._number <= number:
            await self._news.wait()
        return self._number, self._seen

    @property
    def number(self) -> int:
        """Of the latest look."""
        return self._number

    async def _poll(self) -> None:
        while True:
            self._seen = await anyio.to_thread.run_sync(self._look, frozenset(self._watched))
            self._number += 1
            news, self._news = self._news, asyncio.Event()
            news.set()
            await asyncio.sleep(self._every_s)
