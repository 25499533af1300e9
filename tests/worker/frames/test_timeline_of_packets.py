"""What reading every packet tells of a stream: its length and rate, its key frames, and where reading ends."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet

from worker.frames.sampling import Clip
from worker.frames.timeline import Clock, Keys, Timeline, from_packets

UNKNOWN = Clip(duration_s=0.0, fps=0.0, keys_s=())


def packet(pts: int | None, dts: int | None = None, *, key: bool = False) -> Packet[Any]:
    made = av.Packet(b"x")
    made.pts, made.dts, made.is_keyframe = pts, dts, key
    return made


def read(packets: Iterable[int | Packet[Any]], header: Clip = UNKNOWN, most_s: float = 1e6) -> Timeline:
    """Of packets, or of their moments, in tenths of a second."""
    whole = (packet(one) if isinstance(one, int) else one for one in packets)
    return from_packets(whole, Clock(start=0, time_base=Fraction(1, 10)), header, most_s)


def test_the_last_picture_lasts_as_long_as_most() -> None:
    found = read([0, 1, 5, 9, 13])
    assert (found.n_frames, found.clip.duration_s) == (5, pytest.approx(1.7))
    pairs = read([0, 0, 1, 1, 2, 2])
    assert (pairs.n_frames, pairs.clip.duration_s, pairs.may_repeat) == (6, pytest.approx(0.3), True)
    assert not found.may_repeat
    assert read([]).clip.duration_s == read([0, 0]).clip.duration_s == 0


def test_a_rate_is_measured_where_the_header_has_none_or_is_too_short() -> None:
    assert read(range(20)).clip.fps == pytest.approx(10)
    assert read(range(20), Clip(duration_s=0.2, fps=50.0, keys_s=())).clip.fps == pytest.approx(10)
    assert read(range(20), Clip(duration_s=2.0, fps=50.0, keys_s=())).clip.fps == 50
    assert read(range(20), Clip(duration_s=0.0, fps=50.0, keys_s=())).clip.fps == 50


@pytest.mark.parametrize(
    ("steps", "is_variable"), [((10, 14), False), ((10, 16), True), ((1, 2), False), ((2, 4), True), ((0, 10), False)]
)
def test_distances_that_differ_by_more_than_rounding_are_a_variable_rate(steps: tuple[int, int], is_variable: bool) -> None:
    assert read(np.cumsum([0, *steps * 6]).tolist()).variable_rate is is_variable


def test_key_frames_come_by_when_they_are_shown_and_those_whose_time_has_passed_are_none() -> None:
    rising = [packet(at, at - 2, key=at % 20 == 0) for at in range(60)]
    found = read([*rising, packet(10, 58, key=True)])
    assert found.clip.keys_s == (0.0, 2.0, 4.0)
    assert found.keys is not None
    assert found.keys.last(39) == found.keys.last(20) == (20, 18)
    assert found.keys.last(-1) is None
    assert found.keys.last(0) == (0, -2)
    assert (found.n_frames, found.clip.duration_s) == (61, pytest.approx(6.0))


def test_key_frames_that_would_leave_a_picture_out_are_not_read_on_from() -> None:
    assert read([packet(0, 0, key=True), packet(3, 1), packet(2, 2, key=True)]).keys is None
    fields = read([packet(0, 0, key=True), packet(3, 1), packet(3, 2, key=True)]).keys
    assert fields is not None, "a picture in two packets"
    assert fields.shown.tolist() == [0, 3]


def test_reading_ends_when_time_has_gone_on_by_more_than_it_may() -> None:
    packets = iter([packet(at) for at in range(0, 1000, 10)])
    assert read(packets, most_s=5.0).n_frames == 7
    assert next(packets).pts == 70


def test_a_packet_without_a_moment_of_its_own_is_shown_when_it_is_decoded() -> None:
    found = read([packet(None, 0, key=True), packet(None, 1), packet(None, None), packet(None, 2)])
    assert (found.n_frames, found.clip.duration_s) == (3, pytest.approx(0.3))
    assert found.keys is not None
    assert found.keys.has(0, packet(None, 0))


def test_a_key_frame_is_known_by_its_moment_and_its_place() -> None:
    def keys(*places: int) -> Keys:
        return Keys(shown=np.array([0, 5, 5]), decoded=np.array([0, 4, 4]), places=np.array(places))

    assert keys(-1, -1, -1).has(5, packet(5))
    assert not keys(-1, -1, -1).has(5, packet(0))
    assert keys(100, 200, -1).has(5, packet(5)), "the second of two fields"
    assert not keys(-1, 200, 300).has(5, packet(5)), "another picture of that moment"
