"""Of what an edit list shows, and cuts off, frames have the times that players give them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.worker.frames.conftest import FPS, Clips, read_number
from tests.worker.frames.iso import mp4
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder
from worker.types import SamplingRequest, Strategy


@pytest.mark.parametrize(
    "edits",
    [((10, 5), (25, 40)), ((20, 45), (20, 5)), ((15, 10), (15, 10), (15, 10))],
    ids=["a part left out", "parts change places", "one part thrice"],
)
def test_several_parts_lie_one_behind_the_other(clips: Clips, edits: tuple[tuple[int, int], ...]) -> None:
    """What is decoded before each, from a key frame on, has times that were passed, and is not shown."""
    path = clips.path("edited.mp4")
    path.write_bytes(mp4([clips["h264_ip"].path], edits))
    expected = [first + place for count, first in edits for place in range(count)]
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert (media.info.n_frames, media.info.has_edit_list) == (len(expected), True)
        assert media.info.duration_s == pytest.approx(len(expected) / FPS)
        for request in (
            SamplingRequest(strategy=Strategy.FPS, fps=float(FPS)),
            SamplingRequest(),
            SamplingRequest(strategy=Strategy.KEYFRAMES),
            SamplingRequest(times_s=(0.0, 0.5, 1.0)),
        ):
            shown = [(round(frame.pts_s * FPS), read_number(np.asarray(frame.rgb_HWC))) for frame in media.frames(request)]
            assert shown
            assert shown == [(place, expected[place]) for place, _ in shown]


def test_what_is_empty_in_front_of_the_first_frame_is_no_part_of_the_length(clips: Clips) -> None:
    """As where sound comes first. The header counts it."""
    path = clips.path("empty_first.mp4")
    path.write_bytes(mp4([clips["h264_ip"].path], ((20, -1), (50, 10))))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert (media.info.n_frames, media.info.duration_s) == (50, pytest.approx(50 / FPS))
        shown = [(round(frame.pts_s * FPS), read_number(np.asarray(frame.rgb_HWC))) for frame in media.frames(SamplingRequest())]
    assert len(shown) == 32
    assert shown == [(place, 10 + place) for place, _ in shown]
