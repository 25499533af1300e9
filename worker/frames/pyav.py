"""The exact decoder: PyAV (FFmpeg), frames picked by their timestamps, for every kind of file.

Three ways through a video, all over one reader: key frames by themselves (seek, decode one packet, drain), decoding on from the
key frame before a wanted moment, and a linear pass where no key frame lies between two moments. A wanted moment is given the
frame whose timestamp is nearest, of two equally near the earlier; each frame is given once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from worker.errors import CorruptMedia, MediaTooLarge
from worker.frames import colour, probe, sampling, timeline
from worker.frames.limits import Limits
from worker.frames.timeline import Clock
from worker.types import Frame, MediaInfo, MediaKind, SamplingRequest

SEEK_AHEAD_S = 1.0
"""With unknown key frames, a moment further ahead than this is sought instead of decoded to."""
MIN_SEEK_FRAMES = 8
"""A known key frame fewer frames ahead than this is decoded to: a seek costs the frames in flight."""
MAX_BAD_READS = 100
"""Read errors in a row after which the rest of a file is given up."""


@dataclass(slots=True)
class Counts:
    """What a file has cost so far; ``bad`` counts packets that could not be read or decoded."""

    packets: int = 0
    decoded: int = 0
    bad: int = 0
    seeks: int = 0


class PyavDecoder:
    """``FrameDecoder`` on PyAV; ``threads`` is FFmpeg's number of decoding threads."""

    name = "pyav"

    def __init__(self, limits: Limits, threads: int = 2) -> None:
        self._limits = limits
        self._threads = threads

    @contextmanager
    def open(self, file: BinaryIO) -> Iterator[PyavMedia]:
        """Raises a MediaError; the first frame is decoded to know that any can be."""
        with probe.open_container(file, self._limits) as container:
            stream = probe.video_stream(container, self._limits)
            yield PyavMedia(container, stream, file.fileno(), self._limits, self._threads)


class PyavMedia:
    """``OpenMedia`` of one video stream."""

    def __init__(self, container: InputContainer, stream: VideoStream, fd: int, limits: Limits, threads: int) -> None:
        self._reader = _Reader(container, stream, limits, threads)
        self._limits = limits
        head, first = self._reader.first()
        self._clock = Clock(start=_pts(first), time_base=_time_base(stream))
        fps = float(stream.guessed_rate or stream.average_rate or 0)
        duration_s = probe.duration_of(container, stream)
        self._timeline = self._build_timeline(fd, head, duration_s, fps)
        self._shown = colour.shown_size(first, stream.sample_aspect_ratio)
        probe.check_pixels(*self._shown, limits)
        self.info = self._describe(container, stream, first)

    @property
    def counts(self) -> Counts:
        return self._reader.counts

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """Frames that cannot be decoded are passed over; a moment then gets the nearest that can."""
        plan = sampling.plan(request, self._timeline.clip)
        end_s = request.end_s if request.times_s is None else None
        chosen = self._key_frames(plan.times_s) if plan.keys_only else self._nearest(plan.times_s)
        last_pts: int | None = None
        for frame in chosen:
            pts_s = self._clock.seconds(_pts(frame))
            if (last_pts is not None and _pts(frame) <= last_pts) or (end_s is not None and pts_s >= end_s):
                continue
            last_pts = _pts(frame)
            yield Frame(pts_s=pts_s, rgb_HWC=colour.upright_rgb(frame, *self._shown))

    def _key_frames(self, times_s: tuple[float, ...]) -> Iterator[av.VideoFrame]:
        half_frame_s = 0.5 / self.info.fps if self.info.fps else 0.0
        last_key: int | None = None
        for time_s in times_s:
            packet, frame = self._reader.key_frame_at(self._clock.pts(time_s + half_frame_s), after=last_key)
            if packet is not None:
                last_key = packet.pts
            if frame is not None and _pts(frame) >= self._clock.start:
                yield frame
            elif packet is not None and frame is None:
                yield from self._nearest((time_s,))

    def _nearest(self, times_s: tuple[float, ...]) -> Iterator[av.VideoFrame]:
        wanted = [self._clock.pts(time_s) for time_s in times_s]
        at = 0
        while at < len(wanted):
            before: av.VideoFrame | None = None
            for frame in self._reader.frames_from(wanted[at], self._clock.start):
                while at < len(wanted) and _pts(frame) >= wanted[at]:
                    is_nearer = before is None or _pts(frame) - wanted[at] < wanted[at] - _pts(before)
                    yield frame if is_nearer or before is None else before
                    at += 1
                before = frame
                if at < len(wanted) and self._is_cheaper_to_seek(_pts(frame), wanted[at]):
                    break
                if at == len(wanted):
                    return
            else:
                if before is not None:
                    yield before
                return

    def _is_cheaper_to_seek(self, here: int, wanted: int) -> bool:
        here_s, wanted_s = self._clock.seconds(here), self._clock.seconds(wanted)
        clip = self._timeline.clip
        if clip.keys_s is None:
            return wanted_s - here_s > max(SEEK_AHEAD_S, clip.key_period_s)
        at = bisect_right(clip.keys_s, wanted_s) - 1
        return at >= 0 and (clip.keys_s[at] - here_s) * clip.fps > MIN_SEEK_FRAMES

    def _build_timeline(self, fd: int, head: Packet, duration_s: float, fps: float) -> timeline.Timeline:
        reader, clock = self._reader, self._clock
        reader.seek(clock.pts(duration_s / 2))
        found = timeline.from_index(reader.stream, clock, head, duration_s, fps)
        if (found is None or not found.is_whole) and (timeline.is_small(fd) or not duration_s):
            reader.rewind()
            found = timeline.from_packets(reader.packets(), clock, duration_s, fps)
        return found or timeline.estimated(lambda time_s: reader.packets_from(clock.pts(time_s)), duration_s, fps, clock)

    def _describe(self, container: InputContainer, stream: VideoStream, first: av.VideoFrame) -> MediaInfo:
        width, height = self._shown
        turns, _ = colour.orientation(first)
        clip = self._timeline.clip
        return MediaInfo(
            kind=MediaKind.VIDEO,
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=height if turns % 2 else width,
            height=width if turns % 2 else height,
            duration_s=clip.duration_s,
            fps=clip.fps,
            n_frames=max(self._timeline.n_frames, 1),
            pix_fmt=first.format.name,
            bit_depth=max(component.bits for component in first.format.components),
            rotation_deg=turns * 90,
            interlaced=first.interlaced_frame,
            hdr=colour.is_hdr(first),
            has_edit_list=self._timeline.has_edit_list,
            variable_rate=self._timeline.variable_rate,
            decoder=PyavDecoder.name,
        )


class _Reader:
    """Packets and frames of one stream, from any place in it. One iterator at a time is valid."""

    def __init__(self, container: InputContainer, stream: VideoStream, limits: Limits, threads: int) -> None:
        self.stream = stream
        self.counts = Counts()
        self._container = container
        self._limits = limits
        self._codec: VideoCodecContext = stream.codec_context
        self._codec.thread_count = threads
        self._codec.thread_type = "AUTO"  # type: ignore[assignment]
        self._codec.options = {"max_pixels": str(limits.max_pixels)}

    def first(self) -> tuple[Packet, av.VideoFrame]:
        """The first packet and the first frame shown. Raises CorruptMedia where nothing decodes."""
        head: Packet | None = None
        for packet in self.packets():
            head = head or packet
            for frame in self._decode(packet):
                return head, frame
        for frame in self._decode(None):
            if head is not None:
                return head, frame
        raise CorruptMedia("no frame of the video stream can be decoded")

    def seek(self, pts: int) -> None:
        """To the last place before ``pts`` from which the demuxer can read on; to the start where it knows none."""
        self.counts.seeks += 1
        self._codec.flush_buffers()
        try:
            self._container.seek(pts, stream=self.stream)
        except av.error.FFmpegError:
            self.rewind()

    def rewind(self) -> None:
        self._codec.flush_buffers()
        for start in (self.stream.start_time or 0, -(2**40)):
            try:
                self._container.seek(start, stream=self.stream)
            except av.error.FFmpegError:
                continue
            return
        raise CorruptMedia("the file cannot be read from its start again")

    def packets(self) -> Iterator[Packet]:
        """On from here to the end. Raises MediaTooLarge beyond the packet limit."""
        bad_in_a_row = 0
        while bad_in_a_row < MAX_BAD_READS:
            try:
                for packet in self._container.demux(self.stream):
                    if not packet.size:
                        return
                    bad_in_a_row = 0
                    self.counts.packets += 1
                    if self.counts.packets > 4 * self._limits.max_packets:
                        raise MediaTooLarge(f"more than {self._limits.max_packets} packets")
                    yield packet
                return
            except av.error.FFmpegError:
                bad_in_a_row += 1
                self.counts.bad += 1

    def packets_from(self, pts: int) -> Iterator[Packet]:
        self.seek(pts)
        return self.packets()

    def key_frame_at(self, pts: int, after: int | None) -> tuple[Packet | None, av.VideoFrame | None]:
        """The key frame at or before ``pts`` as packet and frame, decoded alone; no frame if its packet is not after ``after``
        or does not decode by itself."""
        for packet in self.packets_from(pts):
            if not packet.is_keyframe:
                continue
            if after is not None and (packet.pts is None or packet.pts <= after):
                return None, None
            frames = [*self._decode(packet), *self._decode(None)]
            self._codec.flush_buffers()
            return packet, next((frame for frame in frames if frame.key_frame), None)
        return None, None

    def frames_from(self, pts: int, start: int) -> Iterator[av.VideoFrame]:
        """Good frames in rising time, the first at or before ``pts`` where the file has one, to the end."""
        back_s = 0.0
        time_base = _time_base(self.stream)
        while True:
            target = pts - round(back_s / time_base)
            from_start = target <= start
            if from_start:
                self.rewind()
            else:
                self.seek(target)
            packets = self.packets()
            key = next((packet for packet in packets if packet.is_keyframe), None)
            if from_start or (key is not None and key.pts is not None and key.pts <= pts):
                break
            back_s = 2 * back_s or 1.0
        if key is None:
            self.rewind()
            packets = self.packets()
        yield from self._rising(key, packets, None if from_start or key is None else key.pts)

    def _rising(self, key: Packet | None, packets: Iterator[Packet], floor: int | None) -> Iterator[av.VideoFrame]:
        """Frames shown before the key frame they were started from (``floor``) lack what they refer to, and are left out."""
        last = floor - 1 if floor is not None else None
        for packet in chain((key,) if key is not None else (), packets, (None,)):
            for frame in self._decode(packet):
                if last is None or _pts(frame) > last:
                    last = _pts(frame)
                    yield frame

    def _decode(self, packet: Packet | None) -> list[av.VideoFrame]:
        try:
            frames = self._codec.decode(packet)
        except av.error.FFmpegError:
            self.counts.bad += 1
            return []
        self.counts.decoded += len(frames)
        return [frame for frame in frames if frame.pts is not None]


def _pts(frame: av.VideoFrame) -> int:
    if frame.pts is None:
        raise CorruptMedia("a frame without a timestamp")
    return frame.pts


def _time_base(stream: VideoStream) -> Fraction:
    if not stream.time_base:
        raise CorruptMedia("a stream without a time base")
    return stream.time_base
