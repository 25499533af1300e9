"""The order of packets, and one run of time made of several."""

from __future__ import annotations

from collections.abc import Sequence

import av
import pytest

from tests.worker.frames.conftest import Clips
from worker.errors import CorruptMedia
from worker.frames.packets import MAX_STAMP, laid_out
from worker.frames.timeline import Order

N = 72


def stamps(run: Sequence[int], shift: int = 0) -> list[tuple[int | None, int | None]]:
    return [(2 * i + 4 + shift, 2 * i + shift) for i in run]


@pytest.mark.parametrize(
    ("packets", "restarts"),
    [
        (stamps(range(200)), False),
        ([(10 * (i - i % 4) + (0, 30, 10, 20)[i % 4], None) for i in range(200)], False),
        ([*stamps(range(100)), (3, 3), *stamps(range(100, 200))], False),
        ([(i // 2, i) for i in range(200)], False),
        ([*stamps(range(100)), *stamps(range(100))], True),
        ([*stamps(range(20)), *stamps(range(20))], True),
        ([(at, None) for at in range(100)] * 2, True),
        ([(at + 1000 if at < 100 else at, at) for at in range(300)], True),
        ([(None, at) for at in range(100)] * 2, True),
        ([*stamps(range(100)), *[(204, None)] * 50], True),
        ([*stamps(range(100)), *stamps(range(100), shift=2000)], True),
        ([*stamps(range(100)), *stamps(range(100), shift=1000)], False),
    ],
    ids=["steady", "reordered", "one odd", "fields", "again", "again, short", "no dts", "dts alone rises", "no pts", "one moment",
         "leap", "pause"],
)  # fmt: skip
def test_time_that_goes_back_is_told_from_reordering(packets: Sequence[tuple[int | None, int | None]], restarts: bool) -> None:
    order = Order(leap=1500)
    for pts, dts in packets:
        order.is_new_run(pts, dts)
    assert order.restarts is restarts
    assert order.count == len(packets)


@pytest.mark.parametrize(("count", "most"), [(90, 2), (1000, 20), (2500, 32)])
def test_the_odd_wrong_stamp_is_no_restart(count: int, most: int) -> None:
    """A fiftieth of all, two at least and no more than reordering may hold."""
    for odd, restarts in ((most, False), (most + 1, True)):
        order = Order()
        for at in range(count):
            order.is_new_run(at, at)
        for _ in range(odd):
            order.is_new_run(5, None)
        assert order.passed == odd
        assert order.restarts is restarts


def test_time_goes_on_by_what_is_shown_later_leaps_left_out() -> None:
    order = Order(leap=1500)
    moments = (100, 110, 105, 120, 1620, 1630, 3131, 3141)
    assert [order.is_new_run(moment, None) for moment in moments] == [False] * 6 + [True, False]
    assert (order.risen, order.leaps) == (10 + 10 + 1500 + 10 + 10, 1)


@pytest.mark.parametrize(
    ("timed", "lacks"),
    [
        ([True] * 99, False),
        ([True, False] * 50, False),
        ([True, False, False, True, False] * 10, False),
        ([True, False, False] * 9, True),
        ([True] * 900 + [False] * 32, False),
        ([True] * 900 + [False] * 33, True),
    ],
)
def test_packets_without_times_are_counted(timed: Sequence[bool], lacks: bool) -> None:
    order = Order()
    for at, is_timed in enumerate(timed):
        order.is_new_run(at if is_timed else None, None)
    assert order.lacks_times is lacks
    assert not order.restarts


def test_times_beyond_all_measure_are_corrupt(clips: Clips) -> None:
    with av.open(str(clips["mpegts"].path)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
    assert len(list(laid_out(iter(packets), 900_000))) == N
    packets[0].pts = packets[0].dts = MAX_STAMP + 1
    with pytest.raises(CorruptMedia, match="measure"):
        list(laid_out(iter(packets), 900_000))
