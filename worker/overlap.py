"""Work on threads while more of it arrives: results in the order of the work, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown()

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
        """``work`` of each item, in their order. Besides one item for each thread one more waits, so that none is idle.

        Whatever ``items`` or ``work`` raises is raised here. Close the iterator (``contextlib.closing``) to drop what waits and
        be sure that nothing runs any more.
        """
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(pending) > self.threads:
                    yield pending.popleft().result()
                pending.append(self._pool.submit(work, item))
                while pending and pending[0].done():
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            wait(pending)
