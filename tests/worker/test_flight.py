"""Tasks side by side: order, bounds, errors, progress of the oldest, and what becomes of them when the run is cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from worker.flight import Flight, most_in_flight

WAIT_S = 30.0
Tell = Callable[[Any], None]


def flight(
    work: Callable[[int, Tell], int], most: int = 2, firsts: list[int] | None = None, told: list[Any] | None = None
) -> Flight[int, int]:
    return Flight[int, int](
        work,
        most=most,
        on_first=(firsts if firsts is not None else []).append,
        on_progress=(told if told is not None else []).append,
    )


def test_two_run_at_once_and_results_come_in_the_order_of_the_tasks() -> None:
    later_done = threading.Event()
    firsts: list[int] = []

    def work(task: int, tell: Tell) -> int:
        if task == 0:
            assert later_done.wait(WAIT_S), "the second runs while the first does"
        later_done.set()
        return task

    assert list(flight(work, firsts=firsts).run(range(7))) == list(range(7))
    assert firsts == list(range(7)), "each becomes the oldest in its turn"


def test_no_more_is_begun_than_may_be_in_flight() -> None:
    begun: list[int] = []

    def work(task: int, tell: Tell) -> int:
        begun.append(task)
        return task

    with closing(flight(work).run(range(20))) as results:
        for place, result in enumerate(results):
            assert result == place
            assert len(begun) <= place + 2


def test_one_at_a_time_is_one_after_the_other() -> None:
    begun: list[int] = []

    def work(task: int, tell: Tell) -> int:
        begun.append(task)
        return task

    with closing(flight(work, most=1).run(range(5))) as results:
        for place, result in enumerate(results):
            assert result == place
            assert begun == list(range(place + 1))


def test_only_the_oldest_tells_how_far_it_is() -> None:
    told: list[Any] = []
    second_told = threading.Event()

    def work(task: int, tell: Tell) -> int:
        if task == 0:
            assert second_told.wait(WAIT_S)
        tell((task, "half"))
        if task == 1:
            second_told.set()
        return task

    assert list(flight(work, told=told).run(range(2))) == [0, 1]
    assert told == [(0, "half")]


def test_results_behind_one_that_was_cut_are_kept() -> None:
    second_done = threading.Event()

    def work(task: int, tell: Tell) -> int:
        if task == 1:
            second_done.set()
            return 1
        while True:
            tell("on and on")
            time.sleep(0.01)

    def tasks() -> Iterator[int]:
        yield from range(2)
        assert second_done.wait(WAIT_S)
        raise KeyboardInterrupt

    run = flight(work, most=3)
    with pytest.raises(KeyboardInterrupt):
        list(run.run(tasks()))
    assert run.finished() == [1]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_what_work_raises_is_raised_in_its_turn(error: BaseException) -> None:
    seen: list[int] = []

    def work(task: int, tell: Tell) -> int:
        if task == 2:
            raise error
        return task

    def collect() -> None:
        for result in flight(work).run(range(9)):
            seen.append(result)

    with pytest.raises(type(error)):
        collect()
    assert seen == [0, 1]


def test_a_run_that_is_cut_ends_what_is_under_way_at_its_next_word() -> None:
    """``closing`` returns only when the second task has ended, by the exception that its progress raised."""
    begun, cut = threading.Event(), threading.Event()
    ended: list[str] = []

    def work(task: int, tell: Tell) -> int:
        if task == 0:
            assert begun.wait(WAIT_S)
            return 0
        begun.set()
        assert cut.wait(WAIT_S)
        try:
            while True:
                tell("on and on")
        except KeyboardInterrupt:
            ended.append("cut")
            raise

    def tasks() -> Iterator[int]:
        yield from range(5)

    with closing(flight(work).run(tasks())) as results:
        assert next(results) == 0
        cut.set()
    assert ended == ["cut"]


@pytest.mark.parametrize(
    ("threads", "exhaustive", "most"), [(1, False, 1), (1, True, 1), (2, False, 3), (2, True, 2), (4, True, 3)]
)
def test_scans_that_may_end_early_leave_room_for_a_third(threads: int, exhaustive: bool, most: int) -> None:
    assert most_in_flight(threads, exhaustive=exhaustive) == most
