"""The exact decoder: PyAV (FFmpeg), frames picked by their timestamps, for every kind of file.

Three ways through a video, all over one reader: key frames by themselves, every second with a few packets behind it (seek, decode
these, drain), decoding on from the key frame before a wanted moment, and a linear pass where no key frame lies between two
moments. A wanted moment is given the frame whose timestamp is nearest, of two equally near the earlier; each frame is given once.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from typing import BinaryIO

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from worker.errors import UnsupportedMedia
from worker.frames import colour, ending, nvdec, planes, probe, programs, reordering, sampling, splices, timeline
from worker.frames.demuxer import Counts, time_base_of
from worker.frames.intime import pts_of
from worker.frames.limits import Limits
from worker.frames.reader import Reader
from worker.frames.timeline import Clock
from worker.types import Frame, MediaInfo, MediaKind, SamplingRequest, Strategy

MIN_SEEK_FRAMES = 8
"""A known key frame fewer frames ahead than this is decoded to: a seek costs the frames in flight."""
FOLLOWING = (1, 3, 7)
"""Packets decoded behind every second key frame, by turns: odd, for the second of two fields is a packet of its own."""
HEAD_S = 2.0
"""So much that does not decode at a recording's beginning is left out of its time."""
MAX_LEADING_FRAMES = 8
"""Most frames that encoders show before the key frame of an open group of pictures."""
MOST_CHANGES = 0.25
"""Of PID, for each moment that is looked at by default: players that keep to the first show nothing of what is under others."""


class PyavDecoder:
    """Decodes by PyAV; ``threads`` is FFmpeg's number of decoding threads. With more than one, what is left of damaged
    frames differs from run to run. ``accel``: the card that decodes (``worker.frames.nvdec``), and no software beside it."""

    name = "pyav"

    def __init__(self, limits: Limits, threads: int = 1, accel: HWAccel | None = None) -> None:
        self._limits = limits
        self._threads = threads
        self._accel = accel

    @contextmanager
    def open(self, file: BinaryIO) -> Iterator[PyavMedia]:
        """Raises a MediaError; the first frame is decoded to know that any can be."""
        with probe.open_container(file, self._limits, self._accel) as container, ExitStack() as again:

            def reopen() -> tuple[InputContainer, VideoStream]:
                again.close()
                other = again.enter_context(probe.open_container(file, self._limits))
                return other, probe.video_stream(other, self._limits)

            stream = probe.video_stream(container, self._limits)
            if self._accel is not None:
                nvdec.check_taken(stream)
            reader = Reader(container, stream, self._limits, self._threads, reopen)
            yield PyavMedia(container, reader, self._limits, file, on_card=self._accel is not None)


class PyavMedia:
    """``OpenMedia`` of one video stream."""

    def __init__(self, container: InputContainer, reader: Reader, limits: Limits, file: BinaryIO, *, on_card: bool) -> None:
        demuxer, stream = reader.demuxer, reader.demuxer.stream
        self._fd = file.fileno()
        self._on_card = on_card
        self._reader = reader
        self._limits = limits
        demuxer.begin()
        index = self._read_index()
        head, first = reader.first(-math.inf if index is None else index.second_key)
        first = self._planar(first)
        self._clock = Clock(start=self._start(pts_of(first)), time_base=time_base_of(stream))
        header = sampling.Clip(
            duration_s=probe.duration_of(container, stream),
            fps=float(stream.average_rate or stream.guessed_rate or 0),
            keys_s=(),
            pixels=first.width * first.height,
        )
        self._timeline = self._build_timeline(index, head, header)
        probe.check_duration(self._timeline.clip.duration_s, limits)
        probe.check_packets(self._timeline.n_frames, limits)
        if container.format.name == "mpegts":
            most = MOST_CHANGES * sampling.first_pass_count(self._timeline.clip.duration_s)
            pids = programs.check_goes_on(self._fd, stream.id)
            if splices.count_changes(file, limits, stream, pids) > most:
                raise UnsupportedMedia("the stream changes too often to pictures under another PID")
        self._missing_s = self._lacking_s(header.duration_s)
        reader.spoilt_at.update(ending.overwritten(self._fd, demuxer.stream))
        self._shown, self._turn = colour.shown_size(first, stream.sample_aspect_ratio), colour.orientation(first)
        probe.check_pixels(*self._shown, limits)
        self._first_size = first.width, first.height
        self._stated_aspect = None if reader.aspects.get(self._first_size) else stream.sample_aspect_ratio
        """Where the container alone says it, it holds for pictures of all sizes."""
        self.has_square_pixels = self._shown == self._first_size
        self.matrix_is_guessed = int(first.colorspace) == colour.UNSPECIFIED
        self.info = self._describe(container, stream, first)
        self.lost_share = 0.0

    def _start(self, first: int) -> int:
        """Where time begins: with the first frame that is shown, or with the first of those before it that should be, if they are
        many and none decodes, from a key frame that an index names on: a recording that begins between two lacks nothing. Their
        times are believed only where they lie as densely as frames do: damage may have made them."""
        stream, spoilt = self._reader.demuxer.stream, self._reader.spoilt_at
        rate = stream.average_rate or stream.guessed_rate
        if not spoilt or not rate:
            return first
        undecoded_s, head = float(len(spoilt) / rate), min(first, *spoilt)
        key = next((entry.timestamp for entry in stream.index_entries if entry.is_keyframe), first)
        is_damage = undecoded_s > HEAD_S and (first - head) * time_base_of(stream) < 2 * undecoded_s
        return head if is_damage and key <= head else first

    @property
    def clip(self) -> sampling.Clip:
        clip = self._timeline.clip
        return clip if self._reader.seekable else replace(clip, restarts=True)

    @property
    def counts(self) -> Counts:
        return self._reader.counts

    def decode_through(self) -> tuple[list[float], list[float]]:
        """Times of all frames of the file that decode, and of the key frames among them."""
        frames = [(self._clock.seconds(pts_of(frame)), frame.key_frame) for frame in self._reader.decode_through()]
        return [at for at, _ in frames], [at for at, is_key in frames if is_key]

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """Frames that cannot be decoded are passed over; a moment then gets the nearest that can. One whose nearest frame lies
        at or behind the window's end gets the last before that."""
        plan = sampling.plan(request, self.clip)
        end_s = request.end_s
        goes_on = request.strategy is not Strategy.KEYFRAMES
        chosen = self._key_frames(plan.times_s, goes_on) if plan.keys_only else self._nearest(plan.times_s)
        last_pts = self._clock.start - 1
        given_s: list[float] = []
        for found in chosen:
            frame: av.VideoFrame | None = found
            if end_s is not None and self._clock.seconds(pts_of(found)) >= end_s:
                frame = self._last_before(end_s, plan.times_s[-1], plan.keys_only)
            if frame is not None and pts_of(frame) > last_pts:
                last_pts = pts_of(frame)
                given_s.append(self._clock.seconds(last_pts))
                inner = self._inner_size(frame)
                yield planes.frame_of(given_s[-1], self._planar(frame), self._shown, self.info.layout, self._turn, inner)
            if frame is not found:
                break
        spoilt_s = sorted(map(self._clock.seconds, self._reader.spoilt_at))
        self.lost_share = sampling.share_lost(plan.times_s, given_s, spoilt_s, self.clip.fps)

    def _last_before(self, end_s: float, time_s: float, keys_only: bool) -> av.VideoFrame | None:
        """The last frame before ``end_s``, or the key frame of ``time_s``, which lies before that too."""
        last: av.VideoFrame | None = None
        at = self._clock.pts(time_s)
        frames = (
            self._key_frames((time_s,), False)
            if keys_only
            else self._reader.frames_from((at,), self._clock.start, may_skip=False)
        )
        for frame in frames:
            if self._clock.seconds(pts_of(frame)) >= end_s:
                break
            last = frame
        return last

    def _inner_size(self, frame: av.VideoFrame) -> tuple[int, int] | None:
        """Of a picture of another size than the first, and of another shape."""
        own = frame.width, frame.height
        if own == self._first_size:
            return None
        size = colour.fitted(colour.shown_size(frame, self._reader.aspects.get(own) or self._stated_aspect), self._shown)
        return None if size == self._shown else size

    def _planar(self, frame: av.VideoFrame) -> av.VideoFrame:
        return nvdec.planar(frame) if self._on_card else frame

    def _key_frames(self, times_s: tuple[float, ...], goes_on: bool) -> Iterator[av.VideoFrame]:
        """The key frames of these times; with ``goes_on``, for every second one what follows it: nobody sees to it that key
        frames are like the others."""
        are_all_keys = self._timeline.may_repeat and self._timeline.n_frames <= 2 * len(self.clip.keys_s)
        if self._reader.doubts_keys() or (goes_on and are_all_keys):
            yield from self._nearest(times_s)
            return
        given = 0
        for frame in self._true_key_frames(times_s, goes_on):
            given += 1
            yield frame
        if self._reader.doubts_keys():
            yield from self._nearest(times_s[given:], given)

    def _true_key_frames(self, times_s: tuple[float, ...], goes_on: bool) -> Iterator[av.VideoFrame]:
        """As ``_key_frames``, no more as soon as the reader doubts what is said to be one."""
        more = [packets_behind(number) if goes_on else 0 for number in range(len(times_s))]
        last_key: int | None = None
        for number, time_s in enumerate(times_s):
            if not self._reader.seekable:
                wanted = [self._clock.pts(left_s) for left_s in times_s[number:]]
                yield from self._reader.key_frames_among(list(zip(wanted, more[number:], strict=True)))
                return
            near = self._key_bound(time_s)
            before = self._key_bound(times_s[number + 1]) if number + 1 < len(times_s) else None
            key, frame = self._reader.key_frame_at(near, self._clock.start, last_key, more[number], before)
            if frame is not None and pts_of(frame) >= self._clock.start:
                yield frame
            elif key is not None and key != last_key:
                yield from self._nearest((time_s,), number)
            elif frame is None:
                self._reader.believe(False, is_spoilt=True)
            last_key = last_key if key is None else key
            if self._reader.doubts_keys():
                return

    def _key_bound(self, time_s: float) -> int:
        """Where to seek for the key frame of this estimated time, a little past it: an index of decoding times puts the key
        frames of open groups of pictures too early by what is shown before them."""
        clip = self._timeline.clip
        if not clip.keys_s or not clip.fps:
            return self._clock.pts(time_s)
        following = bisect_right(clip.keys_s, time_s)
        room_s = clip.keys_s[following] - time_s if following < len(clip.keys_s) else math.inf
        return self._clock.pts(time_s + min(MAX_LEADING_FRAMES / clip.fps, room_s / 2))

    def _nearest(self, times_s: tuple[float, ...], turn: int = 0) -> Iterator[av.VideoFrame]:
        """Where one moment has several frames, its first or its last by turns: players leave the last on the screen, but whoever
        converts the file may keep the first."""
        for number, (_, found) in enumerate(groupby(self._moments_nearest(times_s), lambda moment: pts_of(moment[0])), turn):
            yield next(found)[number % 2]

    def _moments_nearest(self, times_s: tuple[float, ...]) -> Iterator[tuple[av.VideoFrame, av.VideoFrame]]:
        """First and last frame of the moment nearest each of ``times_s``."""
        wanted = [self._clock.pts(time_s) for time_s in times_s]
        at = 0
        while at < len(wanted):
            sought = at
            before: tuple[av.VideoFrame, av.VideoFrame] | None = None
            for here, moment in _moments(self._reader.frames_from(wanted[at:], self._clock.start)):
                while at < len(wanted) and here >= wanted[at]:
                    is_nearer = before is None or here - wanted[at] < wanted[at] - pts_of(before[0])
                    yield moment if is_nearer or before is None else before
                    at += 1
                before = moment
                if sought < at < len(wanted) and self._is_cheaper_to_seek(here, wanted[at]):
                    break
                if at == len(wanted):
                    return
            else:
                if before is not None:
                    yield before
                return

    def _is_cheaper_to_seek(self, here: int, wanted: int) -> bool:
        if not self._reader.seekable:
            return False
        here_s, wanted_s = self._clock.seconds(here), self._clock.seconds(wanted)
        clip = self._timeline.clip
        at = bisect_right(clip.keys_s, wanted_s) - 1
        return at >= 0 and (clip.keys_s[at] - here_s) * clip.fps > MIN_SEEK_FRAMES

    def _read_index(self) -> timeline.Index | None:
        """The container's index, if the file has nothing behind it; read before anything is decoded, as that ends with a seek."""
        demuxer = self._reader.demuxer
        if demuxer.stream.container.format.name not in timeline.INDEXED:
            return None
        index = timeline.read_index(demuxer.stream, time_base_of(demuxer.stream), reordering.offsets_of(self._fd))
        if index is None or not demuxer.ends_where_its_index_ends():
            return None
        index = replace(index, latest=demuxer.latest_from(int(index.shown[-1]) - index.offsets.spread))
        demuxer.rewind()
        return index

    def _build_timeline(
        self, index: timeline.Index | None, head: Packet[VideoStream], header: sampling.Clip
    ) -> timeline.Timeline:
        reader, demuxer = self._reader, self._reader.demuxer
        found = None if index is None else timeline.from_index(index, self._clock, head, header)
        if found is not None:
            return found
        demuxer.rewind()
        most_s = self._limits.max_duration_s
        is_iso = demuxer.stream.container.format.name in timeline.INDEXED
        # FFmpeg keeps fragments whose time has passed from being shown; what an edit list cuts off lies in no fragment
        shows_passed = is_iso and probe.has_fragments(self._fd)
        edited = is_iso and not shows_passed
        found = timeline.from_packets(demuxer.packets(), self._clock, header, most_s, demuxer.leap, may_be_edited=edited)
        order = found.order
        if order is not None:
            probe.check_duration(float(order.risen * self._clock.time_base), self._limits)
        if order is not None and (order.restarts or order.lacks_times):
            reader.lay_out(lacks_times=order.lacks_times, shows_passed=shows_passed)
            _, first = reader.first()
            self._clock = Clock(start=pts_of(first), time_base=self._clock.time_base)
            demuxer.rewind()
            return timeline.from_packets(demuxer.packets(), self._clock, header, most_s)
        reader.keys = found.keys
        reader.seekable = found.keys is not None
        return found

    def _lacking_s(self, header_s: float) -> float:
        """Seconds that the file announces behind its last packet and does not hold. What it announces beyond the limit is cut
        down to it: it may lie."""
        order, readable_s = self._timeline.order, self._timeline.clip.duration_s
        if order is None or order.restarts or order.lacks_times:
            return 0.0
        lacking_s = ending.missing_s(self._fd, self._reader.demuxer.stream, self._clock, header_s, readable_s)
        return min(lacking_s, self._limits.max_duration_s - readable_s)

    def _describe(self, container: InputContainer, stream: VideoStream, first: av.VideoFrame) -> MediaInfo:
        width, height = self._shown
        turns, _ = self._turn
        clip = self._timeline.clip
        others = (other.codec_context for other in probe.moving_streams(container) if other.index != stream.index)
        return MediaInfo(
            kind=MediaKind.VIDEO,
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=height if turns % 2 else width,
            height=width if turns % 2 else height,
            duration_s=clip.duration_s + self._missing_s,
            fps=clip.fps,
            n_frames=max(self._timeline.n_frames, 1) + math.ceil(self._missing_s * clip.fps),
            pix_fmt=first.format.name,
            rotation_deg=turns * 90,
            interlaced=first.interlaced_frame,
            hdr=colour.is_hdr(first),
            has_edit_list=self._timeline.has_edit_list,
            variable_rate=self._timeline.variable_rate,
            decoder=nvdec.NAME if self._on_card else PyavDecoder.name,
            layout=planes.layout_of(first, self._shown),
            missing_s=self._missing_s,
            more_videos=sum(codec is None or codec.width > 0 for codec in others),  # 0: announced, and not there
            starts_s=self._starts_s(container),
        )

    def _starts_s(self, container: InputContainer) -> float:
        """How much later than what begins first; 0 where times were made up, or damage made them."""
        if container.start_time is None or self._reader.demuxer.is_laid_out:
            return 0.0
        later_s = float(self._clock.start * self._clock.time_base - Fraction(container.start_time, av.time_base))
        return later_s if 0 < later_s <= self._limits.max_duration_s else 0.0


def packets_behind(number: int) -> int:
    """How many packets behind its key frame the moment of this number is looked at."""
    return FOLLOWING[number // 2 % len(FOLLOWING)] if number % 2 else 0


def _moments(frames: Iterator[av.VideoFrame]) -> Iterator[tuple[int, tuple[av.VideoFrame, av.VideoFrame]]]:
    """Each moment that has frames, with the first and the last of them."""
    first = last = next(frames, None)
    if first is None or last is None:
        return
    for frame in frames:
        if pts_of(frame) > pts_of(first):
            yield pts_of(first), (first, last)
            first = frame
        last = frame
    yield pts_of(first), (first, last)
