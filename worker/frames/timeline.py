"""Where the frames of a stream lie in time: key frames by the container's index, else by reading the packets of a small file,
else estimated at a few places of a large one whose format can be sought by time.

The clock: t = 0 is the first frame shown, so a start offset and what an edit list cuts off are gone.
"""

from __future__ import annotations

import math
import os
import statistics
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.stream import VideoStream

from worker.frames.sampling import Clip

INDEXED = frozenset(("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf", "mxf"))
"""Containers with an index; of the others FFmpeg notes down the places that it has passed."""
SMALL_BYTES = 32 * 1024**2
"""Without an index, files up to this size are read through once, undecoded."""
PLACES = 6
MAX_PACKETS_A_PLACE = 600
_ENTRY = np.dtype([("at", np.int64), ("is_key", np.bool_), ("is_discard", np.bool_)])


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


def from_index(stream: VideoStream, clock: Clock, first: Packet[VideoStream], header: Clip) -> Timeline | None:
    """By the container's index, without reading on; None where it has none or one with gaps. ``header`` is what the file's head
    says of itself; frames that the index has beyond its length make the clip longer.

    ISO indexes hold decoding times: the distance from decoding to presentation of the first key frame holds for all of them
    closely enough to seek by.
    """
    duration_s, fps = header.duration_s, header.fps
    entries = np.fromiter(((e.timestamp, e.is_keyframe, e.is_discard) for e in stream.index_entries), _ENTRY)
    shown, keys = entries["at"][~entries["is_discard"]], entries["at"][entries["is_key"]]
    if not len(keys) or not len(shown):
        return None
    shift = 0
    if first.pts is not None and first.dts is not None and entries["at"][0] == first.dts:
        shift = first.pts - first.dts
    last_s = clock.seconds(int(shown[-1]) + shift)
    whole = len(entries) > len(keys) or len(keys) == stream.frames
    reach_s = 1.5 if whole else 15.0
    if duration_s - last_s > max(reach_s, 0.05 * duration_s):
        return None
    if whole and not stream.frames and len(entries) < 0.95 * duration_s * fps - 2:
        return None
    step_s = _step(shown) * float(clock.time_base) if whole else 1 / fps if fps else 0.0
    measured_s = max(duration_s, last_s + step_s)
    if whole and measured_s > 1.05 * duration_s:
        fps = len(shown) / measured_s
    return Timeline(
        clip=replace(header, duration_s=measured_s, fps=fps, keys_s=_seconds(keys + shift, clock)),
        n_frames=len(shown) if whole else round(measured_s * fps),
        is_whole=whole,
        has_edit_list=len(shown) < len(entries),
        variable_rate=whole and _is_variable(shown),
    )


def from_packets(packets: Iterator[Packet[VideoStream]], clock: Clock, header: Clip) -> Timeline:
    """By reading every packet, undecoded."""
    pts, keys = array("q"), array("q")
    for packet in packets:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and not packet.is_discard:
            pts.append(stamp)
            if packet.is_keyframe:
                keys.append(stamp)
    shown = np.sort(np.asarray(pts, np.int64))
    duration_s = header.duration_s
    if len(shown):
        duration_s = max(clock.seconds(int(shown[-1])) + _step(shown) * float(clock.time_base), 0.0)
    return Timeline(
        clip=replace(
            header,
            duration_s=duration_s,
            fps=header.fps or (len(shown) / duration_s if duration_s else 0.0),
            keys_s=_seconds(np.asarray(keys, np.int64), clock),
        ),
        n_frames=len(shown),
        is_whole=True,
        variable_rate=_is_variable(shown),
    )


def estimated(packets_from: Callable[[float], Iterator[Packet[VideoStream]]], clock: Clock, header: Clip) -> Timeline | None:
    """By the distance of neighbouring key frames, and of frames, at a few places; None where key frames are so rare that most
    places show none: what reaching a moment costs is then unknown."""
    periods: list[float] = []
    rates: list[float] = []
    for place in range(PLACES):
        keys: list[float] = []
        stamps: list[float] = []
        for packet in islice(packets_from(header.duration_s * (place + 0.5) / PLACES), MAX_PACKETS_A_PLACE):
            if packet.pts is not None:
                stamps.append(clock.seconds(packet.pts))
                keys += stamps[-1:] if packet.is_keyframe else []
            if len(keys) == 2:
                break
        periods.append(keys[1] - keys[0] if len(keys) == 2 and keys[1] > keys[0] else math.inf)
        steps = [b - a for a, b in pairwise(sorted(stamps)) if b > a]
        rates += [1 / statistics.median(steps)] if steps else []
    period_s = statistics.median(periods)
    if math.isinf(period_s):
        return None
    fps = statistics.median(rates) if rates else header.fps
    return Timeline(
        clip=replace(header, fps=fps, key_period_s=period_s),
        n_frames=round(header.duration_s * fps),
        is_whole=False,
    )


def is_small(fd: int) -> bool:
    return os.fstat(fd).st_size <= SMALL_BYTES


def _seconds(stamps: npt.NDArray[np.int64], clock: Clock) -> tuple[float, ...]:
    return tuple(clock.seconds(stamp) for stamp in np.unique(stamps).tolist())


def _step(stamps: npt.NDArray[np.int64]) -> float:
    return float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0


def _is_variable(stamps: npt.NDArray[np.int64]) -> bool:
    """Whether neighbouring distances differ by more than rounding: the longest over 1.5 times the shortest."""
    steps = np.diff(stamps)
    steps = steps[steps > 0]
    return len(steps) > 1 and bool(steps.max() > 1.5 * steps.min() and np.ptp(steps) > 1)
