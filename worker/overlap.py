"""Work on threads while more of it arrives: results in the order of the work, a bounded number at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Crew:
    """``threads`` threads; a context manager that ends them. Its threads are shared by all that call ``map``."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="crew")
        self._lock = threading.Lock()
        self._busy = self._maps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown()

    def map(self, work: Callable[[T], R], items: Iterable[T | Future[R]]) -> Generator[R]:
        """``work`` of each item, in their order. Besides one item for each thread one more waits, so that none is idle.

        In place of an item may stand what ``begin`` gave for it. Whatever ``items`` or ``work`` raises is raised here. Close the
        iterator (``contextlib.closing``) to drop what waits and be sure that nothing runs any more.
        """
        pending: deque[Future[R]] = deque()
        self._count(maps=1)
        try:
            for item in items:
                if len(pending) > self.threads:
                    yield pending.popleft().result()
                pending.append(item if isinstance(item, Future) else self._submit(work, item))
                while pending and pending[0].done():
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            self._count(maps=-1)
            drop(pending)

    def begin(self, work: Callable[[T], R], item: T, *, spare: int) -> Future[R] | None:
        """Begin work that may turn out to be needed, where ``spare`` threads stay idle all the same; else None, and where more
        than one ``map`` is under way: what is needed for sure shall not wait."""
        with self._lock:
            if self.threads < 2 or self._maps > 1 or self._busy + spare >= self.threads:
                return None
        return self._submit(work, item)

    def _submit(self, work: Callable[[T], R], item: T) -> Future[R]:
        def counted() -> R:
            try:
                return work(item)
            finally:
                self._count(busy=-1)

        self._count(busy=1)
        future = self._pool.submit(counted)
        future.add_done_callback(lambda ended: self._count(busy=-1) if ended.cancelled() else None)
        return future

    def _count(self, *, busy: int = 0, maps: int = 0) -> None:
        with self._lock:
            self._busy += busy
            self._maps += maps


def drop(begun: Collection[Future[R]]) -> None:
    """Nothing of it runs any more, or will."""
    for future in begun:
        future.cancel()
    wait(begun)
