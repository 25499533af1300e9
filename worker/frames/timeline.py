"""Where the frames of a stream lie in time: key frames by the container's index, else by reading the packets of a small file,
else estimated at a few places of a large one.

The clock: t = 0 is the first frame shown, so a start offset and what an edit list cuts off are gone.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise

from av.packet import Packet
from av.video.stream import VideoStream

from worker.frames.sampling import Clip

INDEXED = frozenset(("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf", "mxf"))
"""Containers with an index; of the others FFmpeg notes down the places that it has passed."""
SMALL_BYTES = 32 * 1024**2
"""Without an index, files up to this size are read through once, undecoded."""
PLACES = 6
MAX_PACKETS_A_PLACE = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Stream timestamps <-> seconds of the presentation."""

    start: int
    time_base: Fraction

    def seconds(self, pts: int) -> float:
        return float((pts - self.start) * self.time_base)

    def pts(self, time_s: float) -> int:
        return self.start + round(time_s / float(self.time_base))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """``clip`` is what planning needs; ``is_whole`` says that every frame was seen, so that ``n_frames`` is no estimate."""

    clip: Clip
    n_frames: int
    is_whole: bool
    has_edit_list: bool = False
    variable_rate: bool = False


def from_index(stream: VideoStream, clock: Clock, first: Packet[VideoStream], duration_s: float, fps: float) -> Timeline | None:
    """By the container's index, without reading on; None where it has none or one with gaps.

    ISO indexes hold decoding times: the distance from decoding to presentation of the first key frame holds for all of them
    closely enough to seek by.
    """
    if stream.container.format.name not in INDEXED:
        return None
    entries = [(e.timestamp, e.is_keyframe, e.is_discard) for e in stream.index_entries]
    keys = [timestamp for timestamp, is_key, _ in entries if is_key]
    if not keys or not entries:
        return None
    shift = 0
    if first.pts is not None and first.dts is not None and entries[0][0] == first.dts:
        shift = first.pts - first.dts
    last_s = clock.seconds(entries[-1][0] + shift)
    whole = len(entries) > len(keys) or len(keys) == stream.frames
    reach_s = 1.5 if whole else 15.0
    if duration_s - last_s > max(reach_s, 0.05 * duration_s):
        return None
    if whole and not stream.frames and len(entries) < 0.95 * duration_s * fps - 2:
        return None
    keys_s = sorted({clock.seconds(key + shift) for key in keys})
    shown = [timestamp for timestamp, _, is_discard in entries if not is_discard]
    return Timeline(
        clip=Clip(duration_s=duration_s, fps=fps, keys_s=tuple(keys_s)),
        n_frames=len(shown) if whole else round(duration_s * fps),
        is_whole=whole,
        has_edit_list=len(shown) < len(entries),
        variable_rate=whole and _is_variable(shown),
    )


def from_packets(packets: Iterator[Packet[VideoStream]], clock: Clock, duration_s: float, fps: float) -> Timeline:
    """By reading every packet, undecoded."""
    pts: list[int] = []
    keys: list[int] = []
    for packet in packets:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and not packet.is_discard:
            pts.append(stamp)
            if packet.is_keyframe:
                keys.append(stamp)
    pts.sort()
    if pts:
        step = statistics.median(b - a for a, b in pairwise(pts)) if len(pts) > 1 else 0
        duration_s = clock.seconds(pts[-1]) + float(step * clock.time_base)
    keys_s = sorted({clock.seconds(key) for key in keys})
    return Timeline(
        clip=Clip(
            duration_s=max(duration_s, 0.0), fps=fps or (len(pts) / duration_s if duration_s else 0.0), keys_s=tuple(keys_s)
        ),
        n_frames=len(pts),
        is_whole=True,
        variable_rate=_is_variable(pts),
    )


def estimated(
    packets_from: Callable[[float], Iterator[Packet[VideoStream]]], duration_s: float, fps: float, clock: Clock
) -> Timeline:
    """By the distance of neighbouring key frames, and of frames, at a few places."""
    periods: list[float] = []
    rates: list[float] = []
    for place in range(PLACES):
        keys: list[float] = []
        stamps: list[float] = []
        for packet in islice(packets_from(duration_s * (place + 0.5) / PLACES), MAX_PACKETS_A_PLACE):
            if packet.pts is not None:
                stamps.append(clock.seconds(packet.pts))
                keys += stamps[-1:] if packet.is_keyframe else []
            if len(keys) == 2:
                break
        if len(keys) == 2 and keys[1] > keys[0]:
            periods.append(keys[1] - keys[0])
        steps = [b - a for a, b in pairwise(sorted(stamps)) if b > a]
        rates += [1 / statistics.median(steps)] if steps else []
    period_s = statistics.median(periods) if periods else 0.0
    fps = statistics.median(rates) if rates else fps
    return Timeline(
        clip=Clip(duration_s=duration_s, fps=fps, keys_s=None, key_period_s=period_s),
        n_frames=round(duration_s * fps),
        is_whole=False,
    )


def is_small(fd: int) -> bool:
    return os.fstat(fd).st_size <= SMALL_BYTES


def _is_variable(stamps: list[int]) -> bool:
    """Whether neighbouring distances differ by more than rounding: the longest over 1.5 times the shortest."""
    steps = [b - a for a, b in pairwise(stamps) if b > a]
    return len(steps) > 1 and max(steps) > 1.5 * min(steps) and max(steps) - min(steps) > 1
