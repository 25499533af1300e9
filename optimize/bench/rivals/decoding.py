"""Decoding alone: the floor (plain PyAV, nothing but the needed frames at half size), a plain linear pass, decord, and ours."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from optimize.bench.rivals.scanner import scan_settings
from optimize.bench.side import Answer
from worker.frame_source import build_frames
from worker.types import Json, SamplingRequest, Strategy

TOLERANCE_S = 0.002
"""Reports tell times in whole milliseconds; no two frames are nearer than this, below 250 a second."""
NEAR_FRAMES = 8
"""A key frame fewer frames ahead than this is decoded to: a seek costs the frames in flight."""


@contextmanager
def build_floor(options: Json, threads: int) -> Iterator[Answer]:
    """A request: ``path`` and ``times_s``; the frames nearest them are converted to RGB at half size and thrown away.

    Raises RuntimeError where not all of them were given: less work is no floor.
    """

    def decode(request: Json) -> Json:
        return _counted(len(half_frames(Path(request["path"]), request["times_s"], threads)), request)

    yield decode


@contextmanager
def build_linear(options: Json, threads: int) -> Iterator[Answer]:
    """As most people write it: decode from the start to the last frame wanted, those wanted to RGB at full size.

    Raises RuntimeError where not all of them were given.
    """

    def decode(request: Json) -> Json:
        with av.open(request["path"]) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
            clock, left, frames = _Clock(stream), list(request["times_s"]), 0
            for frame in container.decode(stream):
                if frame.pts is not None and (at := _place(left, clock.time_s(frame.pts))) is not None:
                    frame.to_ndarray(format="rgb24")
                    frames += 1
                    del left[at]
                if not left:
                    break
        return _counted(frames, request)

    yield decode


@contextmanager
def build_decord(options: Json, threads: int) -> Iterator[Answer]:
    """``get_batch`` of the frames nearest the times, as in the reference pipelines."""
    from optimize.bench.rivals.by_decord import decode

    yield lambda request: {"frames": len(decode(Path(request["path"]), request["times_s"], threads))}


@contextmanager
def build_ours(options: Json, threads: int) -> Iterator[Answer]:
    """Our sandboxed child, frames handed over. A request: ``path``, ``strategy`` and ``max_frames``."""
    with build_frames(scan_settings({"decode": {"threads": threads}}, threads)) as source:

        def decode(request: Json) -> Json:
            wanted = SamplingRequest(strategy=Strategy(request["strategy"]), max_frames=request["max_frames"])
            with source.open(Path(request["path"])) as media:
                times_s = [frame.pts_s for frame in media.frames(wanted)]
                return {"frames": len(times_s), "times_s": times_s, "duration_s": media.info.duration_s}

        yield decode


def half_frames(path: Path, times_s: Sequence[float], threads: int) -> list[float]:
    """The frames at ``times_s`` (rising; of real frames), each decoded and converted once; the times of those given.

    A group of pictures is entered by seeking where its key frame is some way ahead, and left when its last wanted frame is sent;
    of the others, those that nothing refers to stay undecoded. A container without an index is read from the start: a seek there
    may end behind what is wanted.
    """
    given: list[float] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        stream.thread_type, codec.thread_count = "AUTO", threads
        clock = _Clock(stream)
        keys_s = clock.keys_s()
        for group in _groups(times_s, keys_s, NEAR_FRAMES / float(stream.average_rate or 25)):
            if given:
                codec.flush_buffers()
            if keys_s:
                container.seek(clock.stamp(group[0]), stream=stream)
            unsent, left = list(group), list(group)
            for packet in container.demux(stream):
                if packet.pts is not None and (at := _place(unsent, clock.time_s(packet.pts))) is not None:
                    del unsent[at]
                    codec.skip_frame = "DEFAULT"
                else:
                    codec.skip_frame = "NONREF"
                frames = list(codec.decode(packet)) if packet.size else []
                if not unsent or not packet.size:
                    frames += codec.decode(None)
                for frame in frames:
                    if frame.pts is not None and (at := _place(left, clock.time_s(frame.pts))) is not None:
                        del left[at]
                        _to_half(frame)
                        given.append(clock.time_s(frame.pts))
                if not unsent or not packet.size:
                    break
    return given


def _counted(frames: int, request: Json) -> Json:
    if frames != len(request["times_s"]):
        raise RuntimeError(f"{frames} of the {len(request['times_s'])} frames wanted")
    return {"frames": frames}


class _Clock:
    """Time stamps of a stream as seconds from the start of its presentation, and back."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._base = float(stream.time_base or 1)
        self._start = stream.start_time or 0

    def time_s(self, stamp: int) -> float:
        return (stamp - self._start) * self._base

    def stamp(self, time_s: float) -> int:
        return self._start + round(time_s / self._base)

    def keys_s(self) -> list[float]:
        """Key frames by the container's index (which counts in decoding time, from the first one); none where it has no index."""
        keys = sorted(entry.timestamp for entry in self._stream.index_entries if entry.is_keyframe)
        return [(key - keys[0]) * self._base for key in keys]


def _groups(times_s: Sequence[float], keys_s: Sequence[float], near_s: float) -> list[list[float]]:
    """Times that are decoded in one go; a new group begins where a key frame lies between, ``near_s`` or more ahead."""
    groups: list[list[float]] = []
    for time_s in times_s:
        at = bisect_right(keys_s, time_s + TOLERANCE_S) - 1
        if groups and (at < 0 or keys_s[at] - groups[-1][-1] < near_s):
            groups[-1].append(time_s)
        else:
            groups.append([time_s])
    return groups


def _place(times_s: Sequence[float], time_s: float) -> int | None:
    """Where in ``times_s`` (rising) this one is, within the tolerance."""
    at = bisect_left(times_s, time_s - TOLERANCE_S)
    return at if at < len(times_s) and times_s[at] <= time_s + TOLERANCE_S else None


def _to_half(frame: av.VideoFrame) -> None:
    width, height = max(2, frame.width // 2), max(2, frame.height // 2)
    frame.reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.FAST_BILINEAR)
