"""Work on threads: order, bounds, errors, and that nothing is left running."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from worker.overlap import Crew

WAIT_S = 30.0


def test_results_come_in_the_order_of_the_work_whoever_is_done_first() -> None:
    later_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert later_done.wait(WAIT_S)
        later_done.set()
        return item

    with Crew(2) as crew:
        assert list(crew.map(work, range(9))) == list(range(9))


def test_as_many_run_at_once_as_there_are_threads() -> None:
    together = threading.Barrier(3, timeout=WAIT_S)
    with Crew(3) as crew:
        assert list(crew.map(lambda item: together.wait() >= 0, range(6))) == [True] * 6


def test_no_more_is_taken_than_the_threads_need() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    with Crew(2) as crew, closing(crew.map(lambda item: item, items())) as results:
        for place, result in enumerate(results):
            assert result == place
            assert len(taken) <= place + 4, "two at work, one that waits, and the one just taken"


@pytest.mark.parametrize("error", [ValueError("bad item"), KeyboardInterrupt()])
def test_what_work_raises_is_raised_after_the_results_before_it(error: BaseException) -> None:
    seen: list[int] = []

    def work(item: int) -> int:
        if item == 2:
            raise error
        return item

    def collect(crew: Crew) -> None:
        with closing(crew.map(work, range(9))) as results:
            for result in results:
                seen.append(result)

    with Crew(2) as crew, pytest.raises(type(error)):
        collect(crew)
    assert seen == [0, 1]


def test_a_source_that_breaks_drops_what_waits_and_leaves_nothing_running() -> None:
    running = threading.Semaphore(0)
    ended: list[int] = []

    def items() -> Iterator[int]:
        yield from range(3)
        running.acquire(timeout=WAIT_S)
        raise OSError("the child died")

    def work(item: int) -> int:
        running.release()
        ended.append(item)
        return item

    with Crew(1) as crew:
        with pytest.raises(OSError, match="the child died"), closing(crew.map(work, items())) as results:
            list(results)
        before = list(ended)
        assert list(crew.map(lambda item: item, [7])) == [7], "the crew works on"
        assert ended == before


def test_no_thread_outlives_the_crew() -> None:
    before = set(threading.enumerate())
    with Crew(3) as crew:
        list(crew.map(lambda item: item, range(9)))
        own = set(threading.enumerate()) - before
        assert own
    assert not any(thread.is_alive() for thread in own)
