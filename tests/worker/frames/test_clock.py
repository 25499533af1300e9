from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.frames.timeline import Clock
from worker.types import SamplingRequest


@pytest.mark.parametrize("rate", [24, 25, 30, 50, 60, 1000])
def test_of_two_stamps_as_near_a_moment_the_earlier_is_meant(rate: int) -> None:
    """Also where a float lies a little to the wrong side of the middle."""
    clock = Clock(start=7, time_base=Fraction(1, rate))
    frames = range(2000)
    assert [clock.pts((frame + 0.5) / rate) - 7 for frame in frames] == list(frames)
    assert [clock.pts((frame + 0.51) / rate) - 8 for frame in frames] == list(frames)
    assert [clock.pts(clock.seconds(frame + 7)) - 7 for frame in frames] == list(frames)


def test_every_frame_of_a_short_clip_is_looked_at_whose_clock_ticks_with_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25, options={"sc_threshold": "1000000000", "g": "100"})  # one key frame
        stream.width, stream.height = 64, 64
        for at in range(32):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 8 * at, np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    with path.open("rb") as opened, open_media(opened, Limits()) as media:
        assert [round(25 * frame.pts_s) for frame in media.frames(SamplingRequest())] == list(range(32))
