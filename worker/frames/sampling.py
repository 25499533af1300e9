"""Which moments of a video are looked at: pure functions from times to times, all in seconds of the presentation clock.

Even targets are the middles of equal stretches, so the first and the last stretch are covered, no gap inside is longer than one
stretch and none at the ends longer than half of one.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.types import SamplingRequest, Strategy

FIRST_PASS_PERIOD_S = 5.0
FIRST_PASS_MIN = 32
FIRST_PASS_MAX = 512
MAX_TIMES = 2_000_000
"""No rate or number asks for more moments than this: by default no file may have as many packets."""
DEFAULT_FPS = 1.0
ENOUGH_KEY_FRAMES = 0.5
"""Key frames alone make the first pass if at least this share of the even targets has a key frame of its own."""
MAX_KEY_DISTANCE = 1.5
"""... and no even target is further from its key frame than this, in stretches."""
NEAR_FRAMES, NEAR_S = 8, 0.5
"""A frame so near stands for a moment whose own could not be decoded; behind key frames up to 7 packets are decoded by plan."""
MAX_DECODED_PIXELS = 20_000 * 1280 * 720
"""If decoding between key frames needs more pixels than this, key frames alone make the first pass, however few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Moments to look at, rising. ``keys_only``: they are the times of key frames, each decoded without what lies before it;
    otherwise the frame nearest each moment is wanted."""

    times_s: tuple[float, ...]
    keys_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What planning knows of a video: its length, frame rate (0 unknown), the times of its key frames, rising, and the pixels
    of one frame. ``restarts``: it can only be read from its start on, so to decode any is to decode all before."""

    duration_s: float
    fps: float
    keys_s: tuple[float, ...]
    pixels: int = 1280 * 720
    restarts: bool = False


def first_pass_count(duration_s: float, max_frames: int | None = None) -> int:
    """``clamp(duration / 5 s, 32, 512)``, at most ``max_frames``."""
    count = min(max(round(duration_s / FIRST_PASS_PERIOD_S), FIRST_PASS_MIN), FIRST_PASS_MAX)
    return count if max_frames is None else min(count, max_frames)


def even_times(start_s: float, end_s: float, count: int) -> tuple[float, ...]:
    """The middles of ``count`` equal stretches of [start, end)."""
    step = (end_s - start_s) / count
    return tuple(start_s + (i + 0.5) * step for i in range(count))


def fps_times(start_s: float, end_s: float, fps: float, max_frames: int | None) -> tuple[float, ...]:
    """Every 1/fps seconds from the start; if that is more than ``max_frames`` or ``MAX_TIMES``, as many even moments."""
    count, is_rate = _fps_count(end_s - start_s, fps, max_frames)
    return tuple(start_s + i / fps for i in range(count)) if is_rate else even_times(start_s, end_s, count)


def _fps_count(window_s: float, fps: float, max_frames: int | None) -> tuple[int, bool]:
    """How many moments, and whether they are all those of the rate."""
    most = min(MAX_TIMES, max_frames or MAX_TIMES)
    wanted = max(1, math.ceil(min(window_s * fps, most + 1.0) - 1e-9))
    return min(wanted, most), wanted <= most


def nearest_keys(keys_s: Sequence[float], times_s: Sequence[float]) -> tuple[float, ...]:
    """The key frame nearest each moment, of two as near the earlier (to a nanosecond: floats err), each once, rising."""
    chosen: list[float] = []
    for time in times_s:
        at = bisect_left(keys_s, time)
        best = min(keys_s[max(at - 1, 0) : at + 1], key=lambda key: round(abs(key - time), 9), default=None)
        if best is not None and (not chosen or best > chosen[-1]):
            chosen.append(best)
    return tuple(chosen)


def nearest_frames(starts_s: Sequence[float], times_s: Sequence[float], end_s: float | None) -> list[int]:
    """Which of the frames that begin at ``starts_s`` are nearest the moments, each once, rising. Where that is one at or behind
    ``end_s``, it is the last before."""
    starts = np.asarray(starts_s if end_s is None else [start for start in starts_s if start < end_s])
    return sorted({int(np.abs(starts - time_s).argmin()) for time_s in times_s}) if len(starts) else []


def share_lost(times_s: Sequence[float], given_s: Sequence[float], spoilt_s: Sequence[float], fps: float) -> float:
    """Of the moments ``times_s``, those further than a few frames from all that were given (rising), with a picture nearer that
    could not be decoded (``spoilt_s``, rising)."""
    near_s = min(NEAR_FRAMES / fps, NEAR_S) if fps else NEAR_S
    away_s = [_away(given_s, time_s) for time_s in times_s]
    lost = sum(away > near_s and _away(spoilt_s, time_s) < away for time_s, away in zip(times_s, away_s, strict=True))
    return lost / len(times_s) if times_s else 0.0


def _away(rising_s: Sequence[float], time_s: float) -> float:
    """The way from a moment to the nearest of others."""
    at = bisect_left(rising_s, time_s)
    return min((abs(other - time_s) for other in rising_s[max(at - 1, 0) : at + 1]), default=math.inf)


def thin(times_s: Sequence[float], count: int | None) -> tuple[float, ...]:
    """At most ``count`` of the moments, evenly chosen by rank."""
    if count is None or len(times_s) <= count:
        return tuple(times_s)
    return tuple(times_s[(2 * i + 1) * len(times_s) // (2 * count)] for i in range(count))


def decode_cost(clip: Clip, times_s: Sequence[float]) -> float:
    """Frames to be decoded to reach every moment from the key frame before it, each group of pictures once."""
    if clip.restarts or not clip.keys_s:
        return clip.duration_s * clip.fps
    last_of_group: dict[int, float] = {}
    for time in times_s:
        group = max(bisect_right(clip.keys_s, time) - 1, 0)
        last_of_group[group] = max(time, last_of_group.get(group, time))
    return sum(max(last - clip.keys_s[group], 0.0) * clip.fps + 1 for group, last in last_of_group.items())


def frames_asked(request: SamplingRequest, duration_s: float, n_frames: int | None = None) -> int | None:
    """How many frames the first pass of ``request`` asks for; None where the key frames decide. At most those of ``n_frames`` in
    all that lie in its window: an estimate where the rate varies, which may be too low."""
    end_s = duration_s if request.end_s is None else min(request.end_s, duration_s)
    window_s = max(end_s - request.start_s, 0.0)
    if request.strategy is Strategy.KEYFRAMES:
        return None
    if request.strategy is Strategy.FPS:
        asked, _ = _fps_count(window_s, request.fps or DEFAULT_FPS, request.max_frames)
    elif request.strategy is Strategy.UNIFORM and request.max_frames is not None:
        asked = min(request.max_frames, MAX_TIMES)
    else:
        asked = first_pass_count(window_s, request.max_frames)
    if n_frames is None:
        return asked
    share = window_s / duration_s if duration_s > 0 else 1.0
    return min(asked, max(1, math.ceil(n_frames * share - 1e-6)))


def plan(request: SamplingRequest, clip: Clip) -> Plan:
    """The moments that ``request`` asks of ``clip``. An empty window gives an empty plan."""
    start_s = request.start_s
    end_s = clip.duration_s if request.end_s is None else min(request.end_s, clip.duration_s)
    if request.times_s is not None:
        inside = sorted({time for time in request.times_s if start_s <= time < end_s})
        if clip.restarts and _is_costly(clip, inside):
            return Plan(times_s=thin(nearest_keys(clip.keys_s, inside), request.max_frames), keys_only=True)
        return Plan(times_s=thin(inside, request.max_frames))
    if end_s <= start_s:
        return Plan(times_s=(start_s,) if start_s == 0.0 else ())
    if request.strategy is Strategy.FPS:
        return Plan(times_s=fps_times(start_s, end_s, request.fps or DEFAULT_FPS, request.max_frames))
    count = first_pass_count(end_s - start_s, request.max_frames)
    if request.strategy is Strategy.KEYFRAMES:
        return _key_frames(clip, start_s, end_s, request.max_frames or FIRST_PASS_MAX)
    if request.strategy is Strategy.UNIFORM:
        return Plan(times_s=even_times(start_s, end_s, min(request.max_frames or count, MAX_TIMES)))
    return _auto(clip, start_s, end_s, count)


def _key_frames(clip: Clip, start_s: float, end_s: float, count: int) -> Plan:
    inside = [key for key in clip.keys_s if start_s <= key < end_s]
    return Plan(times_s=thin(inside, count), keys_only=True)


def _auto(clip: Clip, start_s: float, end_s: float, count: int) -> Plan:
    times_s = even_times(start_s, end_s, count)
    stretch_s = (end_s - start_s) / count
    keys = nearest_keys([key for key in clip.keys_s if start_s <= key < end_s], times_s)
    plenty = len(keys) >= ENOUGH_KEY_FRAMES * count and _farthest(keys, times_s) <= MAX_KEY_DISTANCE * stretch_s
    if plenty or (keys and _is_costly(clip, times_s)):
        return Plan(times_s=keys, keys_only=True)
    return Plan(times_s=times_s)


def _is_costly(clip: Clip, times_s: Sequence[float]) -> bool:
    return decode_cost(clip, times_s) * clip.pixels > MAX_DECODED_PIXELS


def _farthest(keys_s: Sequence[float], times_s: Sequence[float]) -> float:
    """The longest way from a moment to the key frame nearest it."""
    return max(min(abs(key - time) for key in keys_s[max(bisect_left(keys_s, time) - 1, 0) :][:2]) for time in times_s)
