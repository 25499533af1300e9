"""Work on threads: order, bounds, errors, and that nothing is left running."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from worker.overlap import Crew, drop

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


def test_work_is_begun_before_its_turn_only_where_threads_are_idle() -> None:
    go = threading.Event()

    def work(item: int) -> int:
        assert go.wait(WAIT_S)
        return item

    with Crew(3) as crew:
        begun = [crew.begin(work, item, spare=1) for item in range(4)]
        assert [future is not None for future in begun] == [True, True, False, False], "the third thread is to stay idle"
        last = crew.begin(work, 7, spare=0)
        assert last is not None
        assert crew.begin(work, 8, spare=0) is None
        go.set()
        assert list(crew.map(work, [20, *filter(None, begun), 30, last])) == [20, 0, 1, 30, 7]
        assert crew.begin(work, 9, spare=2) is not None, "all three are idle again"


def test_nothing_is_begun_before_its_turn_where_another_scan_is_under_way_or_one_thread_does_all() -> None:
    with Crew(4) as crew, closing(crew.map(int, iter([1, 2]))) as one, closing(crew.map(int, iter([3]))) as other:
        assert next(one) == 1
        assert crew.begin(int, 5, spare=0) is not None
        assert next(other) == 3
        assert crew.begin(int, 6, spare=0) is None
        other.close()
        assert crew.begin(int, 7, spare=0) is not None
    with Crew(1) as crew:
        assert crew.begin(int, 8, spare=0) is None


def test_what_was_begun_and_is_not_needed_ends_and_raises_nothing() -> None:
    running, go = threading.Event(), threading.Event()

    def work(item: int) -> None:
        running.set()
        assert go.wait(WAIT_S)
        raise ValueError(item)

    with Crew(2) as crew:
        begun = crew.begin(work, 1, spare=0)
        assert begun is not None
        assert running.wait(WAIT_S)
        threading.Timer(0.05, go.set).start()
        drop([begun])
        assert begun.done()
    drop([])


def test_no_thread_outlives_the_crew() -> None:
    before = set(threading.enumerate())
    with Crew(3) as crew:
        list(crew.map(lambda item: item, range(9)))
        own = set(threading.enumerate()) - before
        assert own
    assert not any(thread.is_alive() for thread in own)
