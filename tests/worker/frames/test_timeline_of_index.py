"""What the index of an ISO file tells of its pictures, and where it is not believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from worker.frames.demuxer import time_base_of
from worker.frames.limits import Limits
from worker.frames.pyav import pts_of
from worker.frames.reader import Reader
from worker.frames.reordering import offsets_of
from worker.frames.sampling import Clip
from worker.frames.timeline import Clock, Timeline, from_index, read_index

PLAIN = [(at, at) for at in range(20)]
SHOWN = (0, 2, 1, 4, 3, 6, 5, 8, 7, 9)
"""Of ten pictures in the order of decoding."""
REORDERED = [(1 + 10 * (at // 10) + SHOWN[at % 10], at) for at in range(20)]
"""Each is decoded a tenth of a second before it is shown, or two, or at once."""


def told(
    path: Path, times: Sequence[tuple[int, int]], duration_s: float = 2.0, fps: float = 10.0, **muxer: str
) -> Timeline | None:
    """What a file tells with pictures at these times, whose head says that it is as long as ``duration_s``."""
    write(path, times, **muxer)
    return read(path, duration_s, fps)


def write(path: Path, times: Sequence[tuple[int, int]], **muxer: str) -> None:
    """Pictures at these times (when shown, when decoded), in tenths of a second; each tenth one is a key frame."""
    with av.open(str(path), "w", options=muxer) as file:
        stream = file.add_stream("mpeg4", rate=10, options={"g": "10", "sc_threshold": "1000000000"})
        stream.width, stream.height = 64, 64
        made = [packet for at in range(len(times)) for packet in stream.encode(picture(at))] + stream.encode(None)
        for packet, (pts, dts) in zip(made, times, strict=True):
            packet.pts, packet.dts, packet.time_base, packet.duration = pts, dts, Fraction(1, 10), 1
            file.mux(packet)


def read(path: Path, duration_s: float, fps: float) -> Timeline | None:
    with path.open("rb") as opened, av.open(str(path)) as container:
        video = container.streams.video[0]
        reader = Reader(container, video, Limits(), 1, pytest.fail)
        head, first = reader.first()
        clock = Clock(start=pts_of(first), time_base=time_base_of(video))
        index = read_index(video, clock.time_base, offsets_of(opened.fileno()))
        if index is None:
            return None
        index = replace(index, latest=reader.demuxer.latest_from(int(index.shown[-1]) - index.offsets.spread))
        return from_index(index, clock, head, Clip(duration_s=duration_s, fps=fps, keys_s=()))


def picture(at: int) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * at, np.uint8), format="rgb24")


def moved(times: Sequence[tuple[int, int]], number: int, by: int) -> list[tuple[int, int]]:
    """One picture shown later."""
    return [(pts + by * (at == number), dts) for at, (pts, dts) in enumerate(times)]


@pytest.mark.parametrize("times", [PLAIN, REORDERED])
def test_key_frames_and_length_are_those_of_what_is_shown(tmp_path: Path, times: list[tuple[int, int]]) -> None:
    for duration_s in (1.0, 2.0):
        found = told(tmp_path / "clip.mp4", times, duration_s)
        assert found is not None
        assert (found.n_frames, found.has_edit_list, found.variable_rate) == (20, False, False)
        assert found.may_repeat == (times is REORDERED)
        assert found.clip.keys_s == pytest.approx((0.0, 1.0))
        assert found.clip.duration_s == pytest.approx(2.0)


def test_pictures_beyond_the_length_in_the_head_make_the_clip_longer_and_its_rate_measured(tmp_path: Path) -> None:
    rates = {}
    for duration_s in (1.0, 1.95, 3.0):
        found = told(tmp_path / "clip.mp4", PLAIN, duration_s, fps=50.0)
        assert found is not None
        rates[duration_s] = (found.clip.duration_s, found.clip.fps)
    assert rates == {1.0: (2.0, 10.0), 1.95: (2.0, 50.0), 3.0: (3.0, 50.0)}


@pytest.mark.parametrize(
    ("step", "duration_s", "believed"), [(1, 3.3, True), (1, 3.5, False), (30, 59.5, True), (30, 62.0, False)]
)
def test_an_index_that_ends_well_before_the_length_in_the_head_is_not_believed(
    tmp_path: Path, step: int, duration_s: float, believed: bool
) -> None:
    """By more than 1.5 s, and 5 %: what is behind it would not be looked at."""
    found = told(tmp_path / "clip.mp4", [(step * at, step * at) for at in range(20)], duration_s)
    assert (found is not None) == believed


def test_what_an_edit_list_cuts_off_counts_as_no_picture(tmp_path: Path) -> None:
    """Its key frame is still one to decode from."""
    found = told(tmp_path / "clip.mp4", [(at - 5, at - 5) for at in range(20)], 1.5, avoid_negative_ts="disabled")
    assert found is not None
    assert (found.n_frames, found.has_edit_list) == (15, True)
    assert found.clip.keys_s == pytest.approx((-0.5, 0.5))


def test_what_an_edit_list_cuts_off_behind_counts_as_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write(path, PLAIN)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12
    data[at : at + 4] = (1000).to_bytes(4, "big")  # milliseconds
    path.write_bytes(data)
    found = read(path, 1.0, 10.0)
    assert found is not None
    assert (found.n_frames, found.clip.duration_s) == (10, pytest.approx(1.0))


def test_a_pause_is_a_variable_rate(tmp_path: Path) -> None:
    found = told(tmp_path / "clip.mp4", [(at + 10 * (at > 9),) * 2 for at in range(20)], 3.0)
    assert found is not None
    assert found.variable_rate


@pytest.mark.parametrize(
    ("number", "by", "believed"),
    [(9, 1, True), (9, 2, False), (19, 2, True), (19, 3, False), (15, 8, False), (15, 30, False)],
    ids=["with a key frame", "behind a key frame", "a little late", "later", "late, and not last", "seconds late"],
)  # fmt: skip
def test_a_picture_shown_well_behind_its_decoding_is_not_left_out(tmp_path: Path, number: int, by: int, believed: bool) -> None:
    """Of two fields one may have the moment of a key frame."""
    assert (told(tmp_path / "clip.mp4", moved(REORDERED, number, by), 2.05) is not None) == believed


def test_decoding_times_that_run_off_from_those_of_showing_are_no_clock(tmp_path: Path) -> None:
    """Seconds between the two do no harm where they are always the same."""
    assert told(tmp_path / "clip.mp4", [(at + 30, at) for at in range(20)]) is not None
    assert told(tmp_path / "clip.mp4", [(3 * at + 30, 3 * at + 29 * (at > 9)) for at in range(20)], 6.0) is None


def test_fragments_have_no_index_to_go_by(tmp_path: Path) -> None:
    assert told(tmp_path / "clip.mp4", PLAIN, movflags="frag_keyframe+empty_moov") is None
