"""Two or three items at a time in one process: while one's last frames are scored, those of the next are decoded.

A scan alone cannot keep two cores busy: it begins without a batch and ends in a few small ones
(docs/decisions/0011-early-decision.md).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

PATIENCE_S = 2.0
"""So long the items in flight are waited for when a run is cut; a scan looks up between two batches of frames."""

LOOK_UP_S = 0.5

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[Any], None]


def most_in_flight(threads: int, *, exhaustive: bool) -> int:
    """Scans at a time that keep so many threads busy, measured on two: of those that may end early one waits now and then, and
    a third is in the others' way where every frame is scored."""
    if threads < 2:
        return 1
    return 2 if exhaustive and threads == 2 else 3


class Flight(Generic[T, R]):
    """Does tasks on threads, ``most`` at once, and gives their results in the order of the tasks.

    ``work`` gets a task and what to call with its progress, which ends the work (KeyboardInterrupt) once the run was cut.
    ``on_first`` hears which task is the oldest under way; ``on_progress`` how far that one is, on its thread.
    """

    def __init__(
        self, work: Callable[[T, Progress], R], *, most: int, on_first: Callable[[T], None], on_progress: Progress
    ) -> None:
        self._work, self._most = work, most
        self._on_first, self._on_progress = on_first, on_progress
        self._under_way: deque[tuple[T, Future[R], threading.Thread]] = deque()
        self._cut = False

    def run(self, tasks: Iterable[T]) -> Generator[R]:
        """Whatever ``work`` raises is raised in its turn. Close the iterator to cut the run."""
        try:
            for task in tasks:
                if len(self._under_way) == self._most:
                    yield self._oldest()
                    self._landed()
                self._start(task)
            while self._under_way:
                yield self._oldest()
                self._landed()
        finally:
            self._cut = True
            deadline = time.monotonic() + PATIENCE_S
            for _, _, thread in self._under_way:
                if thread.is_alive():  # a signal may come before it was started
                    thread.join(max(0.0, deadline - time.monotonic()))

    def finished(self) -> list[R]:
        """Once the run was cut: results of tasks that were done all the same, in order, errors left out. The first may have been
        given before."""
        ended = [future for _, future, _ in self._under_way if future.done()]
        return [future.result() for future in ended if future.exception() is None]

    def _start(self, task: T) -> None:
        future: Future[R] = Future()

        def work() -> None:
            try:
                future.set_result(self._work(task, tell))
            except BaseException as exc:  # noqa: BLE001 - raised where the result is asked for
                future.set_exception(exc)

        def tell(progress: Any) -> None:
            if self._cut:
                raise KeyboardInterrupt
            if self._under_way and self._under_way[0][1] is future:
                self._on_progress(progress)

        # Not a pool's thread: those are waited for when the process ends, whatever they are stuck in.
        thread = threading.Thread(target=work, name="flight", daemon=True)
        if not self._under_way:
            self._on_first(task)
        self._under_way.append((task, future, thread))
        thread.start()

    def _oldest(self) -> R:
        """The oldest task's result. Looks up now and then: a signal just before a lock is waited for does not end the wait."""
        future = self._under_way[0][1]
        while not future.done():
            wait([future], timeout=LOOK_UP_S)
        return future.result()

    def _landed(self) -> None:
        """The oldest task's result was given, and used."""
        self._under_way.popleft()
        if self._under_way:
            self._on_first(self._under_way[0][0])
