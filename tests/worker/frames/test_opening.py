"""A file's first frames are decoded once, whether or not a pass over it begins with them."""

from __future__ import annotations

import hashlib
import math
import sys
from collections import deque
from itertools import islice, repeat

import av
import pytest

from tests.worker.frames.conftest import FPS, Clips, Recipe, encode
from worker.frames.limits import Limits
from worker.frames.opening import Opening
from worker.frames.packets import LOOKAHEAD_BYTES
from worker.frames.pyav import PyavDecoder, PyavMedia
from worker.types import SamplingRequest, Strategy

ALL = SamplingRequest(strategy=Strategy.FPS, fps=FPS)
MIDDLE = tuple(number / FPS for number in range(12, 20))
LATE = tuple(number / FPS for number in range(26, 72, 3))


def told(media: PyavMedia, request: SamplingRequest) -> list[tuple[float, str]]:
    """Of each frame when it is shown, and what it shows."""
    return [(frame.pts_s, hashlib.sha256(frame.rgb_HWC.tobytes()).hexdigest()) for frame in media.frames(request)]


@pytest.mark.parametrize(
    "request_", [ALL, SamplingRequest(times_s=MIDDLE), SamplingRequest(times_s=LATE), SamplingRequest(start_s=0.3, end_s=0.7)]
)
@pytest.mark.parametrize("name", ["h264_one_key", "h264", "open_gop", "hevc_open_gop", "edit_list", "vfr"])
def test_a_pass_gives_the_same_behind_the_first_frame_and_after_a_seek(
    clips: Clips, name: str, request_: SamplingRequest
) -> None:
    with clips[name].path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        behind = told(media, request_)
        assert behind
        assert behind == told(media, request_)


@pytest.mark.parametrize("name", ["h264_one_key", "h264"])
def test_no_frame_is_decoded_twice(clips: Clips, name: str) -> None:
    with clips[name].path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert 0 < media.counts.decoded < 4
        assert len(told(media, ALL)) == media.counts.decoded == 72


def test_what_lies_behind_a_later_key_frame_is_sought(clips: Clips) -> None:
    """Not decoded to from the first frame."""
    with clips["h264"].path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        opening = media.counts.decoded
        assert len(told(media, SamplingRequest(times_s=(50 / FPS, 51 / FPS)))) == 2
        assert media.counts.decoded - opening < 10


@pytest.mark.parametrize("threads", [1, 16])
def test_a_clip_that_ends_with_its_first_frames_is_given_whole(clips: Clips, threads: int) -> None:
    """The decoder had to be drained to get at them."""
    path = encode(Recipe(n_frames=3), clips.path("three.mp4")).path
    with path.open("rb") as file, PyavDecoder(Limits(), threads).open(file) as media:
        behind = told(media, ALL)
        assert len(behind) == 3
        assert behind == told(media, ALL)


@pytest.mark.parametrize("alone_before", [10, -math.inf])
def test_a_file_of_which_nothing_decodes_is_not_kept(alone_before: float) -> None:
    packet = av.Packet(LOOKAHEAD_BYTES // 8)
    packet.is_keyframe = True
    opening = Opening(packet, repeat(packet), alone_before)  # type: ignore[arg-type]
    held = sys.getrefcount(packet)
    deque(islice(opening, 7), maxlen=0)
    assert opening.leads_to(0) == (alone_before == 10)
    deque(islice(opening, 2), maxlen=0)
    assert not opening.leads_to(0)
    assert sys.getrefcount(packet) <= held
