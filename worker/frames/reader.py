"""Good frames of one video stream, from any place in it, with the packets that nobody needs left undecoded."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from typing import Literal

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from worker.errors import CorruptMedia, OutOfMemory
from worker.frames.demuxer import Demuxer, Reopen, time_base_of
from worker.frames.intime import InTime, pts_of
from worker.frames.limits import Limits
from worker.frames.opening import Opening
from worker.frames.packets import MAX_STAMP, mark_needed, next_key, skip_to_last_key, stamp_of
from worker.frames.timeline import Keys

SKIPPING_CODECS = frozenset(("h264", "hevc"))
"""Codecs whose frames can be left out if no other refers to them."""
MAX_EARLY_S = 10
"""A seek that ends before the key frame that lies so much before the moment sought costs too much reading to be of use."""
MAX_SPOILT_KEYS = 2
"""So many key frames, and one of four, may give no frame that can be shown: damage does that."""


class Reader:
    """Packets and frames of one stream, from any place in it. One iterator at a time is valid.

    ``keys``, where they were read, are what seeking has to find. Not ``seekable`` is a stream in which it found something else,
    or whose time goes back somewhere, or leaps (``lay_out``): it is read from the file's start only. So is one whose
    ``doubts_keys``: what is said to be a key frame is none, and not for damage.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, limits: Limits, threads: int, reopen: Reopen) -> None:
        self.demuxer = Demuxer(container, stream, limits, reopen, on_leave=self._flush)
        self.counts = self.demuxer.counts
        self.spoilt_at: set[int] = set()
        """When those were to be shown that were read and could not be decoded, or only in part."""
        self.aspects: dict[tuple[int, int], Fraction | None] = {}
        """Width over height of a pixel, by the size of the frames; None where the stream itself does not say."""
        self.keys: Keys | None = None
        self.seekable = True
        self._goes_back = self._skips_none = self._doubts_keys = False
        self._tried_keys = self._lost_keys = self._spoilt = 0
        self._opening: Opening | None = None
        self._known: deque[list[av.VideoFrame]] = deque()
        """What the next packets gave, where the decoder is behind them already."""
        self._stamps: deque[int | None] = deque()
        self._skip = "DEFAULT"
        self._codec: VideoCodecContext = stream.codec_context
        self._codec.thread_count = threads
        self._codec.thread_type = "AUTO"
        self._codec.options = {"max_pixels": str(limits.max_pixels)}

    def first(self, alone_before: float = -math.inf) -> tuple[Packet[VideoStream], av.VideoFrame]:
        """The first packet and the first frame shown. ``frames_from`` goes on behind it, where nothing is sought in between, for
        moments before ``alone_before`` (as of ``Opening``). Raises CorruptMedia where nothing decodes."""
        self.demuxer.begin()
        packets = self.demuxer.packets()
        head = next(packets, None)
        if head is not None:
            self._opening = Opening(head, packets, alone_before)
            for frame in self._in_time(self._opening, None, -MAX_STAMP):
                return head, frame
        raise CorruptMedia("no frame of the video stream can be decoded")

    def lay_out(self, *, lacks_times: bool, shows_passed: bool) -> None:
        """As ``Demuxer.lay_out``: from now on the stream is read from its start only."""
        self.seekable = False
        self.demuxer.lay_out(lacks_times=lacks_times, shows_passed=shows_passed)

    def _flush(self) -> None:
        self._codec.flush_buffers()
        self._stamps.clear()
        self._known.clear()
        self._opening = None

    def key_frame_at(
        self, pts: int, start: int, after: int | None, more: int = 0, before: int | None = None
    ) -> tuple[int | None, av.VideoFrame | None]:
        """The key frame at or before ``pts``: its time, and the frame decoded alone or, with ``more``, the last shown of so many
        packets behind it, of those before the next key frame; one that says it is shown before the key frame, or not before
        ``before``, is given the key frame's time.

        No frame if the key frame is not after ``after`` or does not decode by itself; no time where the file has no key frame
        there. ``start`` is the first moment of the file.
        """
        key, packets = self._locate(pts, start)
        stamp = None if key is None else stamp_of(key)
        if key is None or stamp is None or (after is not None and stamp <= after):
            return stamp, None
        frame, _ = self._decode_group(key, packets, more, before)
        return stamp, frame

    def key_frames_among(self, wanted: Sequence[tuple[int, int]]) -> Iterator[av.VideoFrame]:
        """What ``key_frame_at`` gives for the key frames of these times, each with its own ``more`` and before the next of them,
        in one way through the file; no more as soon as it ``doubts_keys``."""
        self.demuxer.rewind()
        befores = [*(stamp for stamp, _ in wanted[1:]), None]
        left = {stamp: (more, before) for (stamp, more), before in zip(wanted, befores, strict=True)}
        marked = mark_needed(self.demuxer.packets(), None)
        line = InTime(-MAX_STAMP)
        packet, _, coming = next(marked, (None, False, ()))
        packets = (behind for behind, _, _ in marked)
        while packet is not None:
            if self._doubts_keys:
                return
            stamp, frame, behind = stamp_of(packet), None, None
            if packet.is_keyframe and stamp is not None and stamp in left:
                frame, behind = self._decode_group(packet, packets, *left.pop(stamp))
            yield from line.give(() if frame is None else (frame,), coming, delays=False)
            packet = behind or next(packets, None)
        yield from line.give((), (), delays=False)

    def _decode_group(
        self, key: Packet[VideoStream], packets: Iterator[Packet[VideoStream]], more: int, before: int | None
    ) -> tuple[av.VideoFrame | None, Packet[VideoStream] | None]:
        """The frame as in ``key_frame_at``, and the packet that was read and not decoded, if one was."""
        spoilt = self._spoilt
        frames = self._decode(key)
        behind: Packet[VideoStream] | None = None
        for _ in range(more):
            behind = next(packets, None)
            if behind is None or (behind.is_keyframe and stamp_of(behind) != stamp_of(key)):
                break
            frames += self._decode(behind)
            behind = None
        frames += self._decode(None)
        self._flush()
        found = next((frame for frame in frames if frame.key_frame), None)
        self.believe(found is not None, is_spoilt=self._spoilt > spoilt)
        if found is None or not more:
            return found, behind
        last = frames[-1]
        if pts_of(last) < pts_of(found) or (before is not None and pts_of(last) >= before):
            last.pts = found.pts
        return last, behind

    def frames_from(self, wanted: Sequence[int], start: int, *, may_skip: bool = True) -> Iterator[av.VideoFrame]:
        """Good frames in time that does not fall, the first at or before ``wanted[0]`` where the file has one, to the file's end.

        ``wanted`` rises; frames that are not the nearest to one of its moments, and to which no other frame refers, may be
        missing if ``may_skip``. ``start`` is the first moment of the file.
        """
        key, packets = self._behind_opening(wanted[0]) or self._locate(wanted[0], start)
        stamp = None if key is None else stamp_of(key)
        skips = may_skip and self._codec.name in SKIPPING_CODECS and not self.demuxer.is_untimed
        floor = start if stamp is None or stamp > wanted[0] else max(stamp, start)
        spoilt, was_seekable = self._spoilt, self.seekable
        frames = self._in_time(packets if key is None else chain((key,), packets), wanted if skips else None, floor)
        if not was_seekable or stamp != floor:
            return frames
        first = next(frames, None)
        self.believe(first is not None and first.key_frame and pts_of(first) == stamp, is_spoilt=self._spoilt > spoilt)
        if self._doubts_keys:
            return self.frames_from(wanted, start, may_skip=may_skip)
        return frames if first is None else chain((first,), frames)

    def doubts_keys(self) -> bool:
        """Whether packets are said to be key frames that are none."""
        return self._doubts_keys

    def believe(self, is_key: bool, *, is_spoilt: bool) -> None:
        """What became of a key frame. Where it was none, no key frame is sought any more."""
        self._tried_keys += 1
        self._lost_keys += not is_key
        if not is_key and (not is_spoilt or self._lost_keys > max(MAX_SPOILT_KEYS, self._tried_keys // 4)):
            self._doubts_keys, self.seekable, self.keys = True, False, None

    def _behind_opening(self, pts: int) -> tuple[Packet[VideoStream], Iterator[Packet[VideoStream]]] | None:
        """As ``_locate``, where that is the first packet and the decoder is right behind the first frame still."""
        opening, self._opening = self._opening, None
        if opening is None or self._spoilt or self.counts.bad or not opening.leads_to(pts):
            return None
        key, packets, self._known = opening.again()
        return key, packets

    def _locate(self, pts: int, start: int) -> tuple[Packet[VideoStream] | None, Iterator[Packet[VideoStream]]]:
        """The last key frame at or before ``pts`` that can be found by seeking, and the packets after it; from the start of the
        file (then None if it does not start with a key frame) if there is none."""
        known = None if self.keys is None else self.keys.last(pts)
        if self.keys is not None and known is not None:
            return self._locate_known(self.keys, *known, pts, start)
        back_s = 0.0
        while True:
            target = pts - round(back_s / time_base_of(self.demuxer.stream))
            from_start = not self.seekable or target <= start
            if from_start:
                self.demuxer.rewind()
            packets = self.demuxer.packets() if from_start else self.demuxer.packets_from(target)
            first = next(packets, None)
            if from_start and (first is None or not first.is_keyframe):
                return None, packets if first is None else chain((first,), packets)
            key = first if first is None or first.is_keyframe else next_key(packets, pts)
            stamp = None if key is None else stamp_of(key)
            if key is not None and (from_start or (stamp is not None and stamp <= pts)):
                return (key, packets) if not back_s else skip_to_last_key(key, packets, pts)
            back_s = 2 * back_s or 1.0

    def _locate_known(
        self, keys: Keys, shown: int, decoded: int, pts: int, start: int
    ) -> tuple[Packet[VideoStream] | None, Iterator[Packet[VideoStream]]]:
        """As ``_locate``, of the key frame that reading through has told. A demuxer goes by stamps and by indexes that may say
        what they like: one that leads elsewhere is asked no more."""
        second = round(1 / time_base_of(self.demuxer.stream))
        for target in (pts, decoded - second):
            if not self.seekable or target <= start:
                break
            packets = self.demuxer.packets_from(target)
            key = next_key(packets, pts)
            if key is None:
                continue
            stamp, least = stamp_of(key), keys.last(target - MAX_EARLY_S * second)
            if stamp is None or (stamp < shown and (least is None or least[0] <= stamp)):
                key, packets = skip_to_last_key(key, packets, pts)
            if keys.has(shown, key):
                return key, packets
        else:
            self.seekable = False
        self.demuxer.rewind()
        packets = self.demuxer.packets()
        return next((packet for packet in packets if packet.is_keyframe and stamp_of(packet) == shown), None), packets

    def decode_through(self) -> Iterator[av.VideoFrame]:
        """Every good frame of the file."""
        self.demuxer.rewind()
        return (frame for packet in chain(self.demuxer.packets(), (None,)) for frame in self._decode(packet))

    def _in_time(
        self, packets: Iterator[Packet[VideoStream]], wanted: Sequence[int] | None, floor: int
    ) -> Iterator[av.VideoFrame]:
        """Frames shown before the key frame they were started from (at ``floor``) lack what they refer to, and are left out, as
        are those that none of ``wanted`` needs, until a packet that one needs holds none: then nobody knows which hold any."""
        line = InTime(floor, goes_back=self._goes_back, threads=self._codec.thread_count)
        for packet, is_nearest, coming in mark_needed(packets, wanted):
            is_needed = is_nearest or self._skips_none
            bad = self.counts.bad
            frames = self._decode(packet, is_needed)
            is_due, is_bad = is_needed and not packet.is_discard, self.counts.bad > bad
            line.send(packet.pts if is_due and not is_bad else None)
            try:
                yield from line.give(frames, coming, delays=self._codec.has_b_frames or self._codec.thread_count > 1)
            finally:  # whoever takes the frames may have had enough of them
                self._goes_back = line.goes_back
                self._skips_none = self._skips_none or (wanted is not None and (line.lacks or (is_due and is_bad)))
        yield from line.give(self._decode(None), (), delays=False)

    def _decode(self, packet: Packet[VideoStream] | None, is_needed: bool = True) -> list[av.VideoFrame]:
        if self._known:
            return self._known.popleft()
        skip: Literal["DEFAULT", "NONREF"] = "DEFAULT" if is_needed else "NONREF"
        if skip != self._skip:
            self._codec.skip_frame = self._skip = skip
        try:
            frames = self._codec.decode(packet)
        except av.error.MemoryError as exc:
            raise OutOfMemory(f"decoding a packet: {exc.strerror}") from exc
        except av.error.FFmpegError:
            self.counts.bad += 1
            self._note_spoilt(None if packet is None or packet.is_discard else stamp_of(packet))
            return []
        self.counts.decoded += len(frames)
        if self.demuxer.is_untimed:
            if packet is not None:
                self._stamps.append(packet.dts)
            for frame in frames:
                frame.pts = self._stamps.popleft() if self._stamps else None
        for frame in frames:
            self.aspects.setdefault((frame.width, frame.height), self._codec.sample_aspect_ratio)
            if frame.is_corrupt:
                self._note_spoilt(frame.pts)
        good = [frame for frame in frames if frame.pts is not None and not frame.is_corrupt]
        if self._opening is not None:
            self._opening.note(good)
        return good

    def _note_spoilt(self, stamp: int | None) -> None:
        self._spoilt += 1
        if stamp is not None:
            self.spoilt_at.add(stamp)
