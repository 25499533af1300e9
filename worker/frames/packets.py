"""Packets of one video stream as they come: laid out in one run of time, marked where a frame is needed, cut to a key frame."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import cast

from av.packet import Packet
from av.video.stream import VideoStream

from worker.errors import CorruptMedia
from worker.frames.timeline import REORDERED, Order

LOOKAHEAD_BYTES = 32 * 1024**2
MAX_STAMP = 2**62


def laid_out(packets: Iterator[Packet[VideoStream]], leap: int, *, shows_passed: bool = False) -> Iterator[Packet[VideoStream]]:
    """Packets whose time goes on where a new run of it begins, or where they have none; ``leap`` in ticks. ``shows_passed``:
    those that are not to be shown because their time has passed are shown after all, but for those that are given twice.

    Raises CorruptMedia.
    """
    shift, order, step, is_behind_untimed = 0, Order(leap), 1, False
    latest: int | None = None
    decoded: int | None = None
    places: set[int | None] = set()
    for packet in packets:
        if shows_passed and packet.dts is not None:
            place, has_passed = packet.pos, decoded is not None and packet.dts <= decoded
            decoded = packet.dts if decoded is None else max(packet.dts, decoded)
            if packet.is_discard and has_passed:
                if place in places:  # fragments that a demuxer has read twice are in its index twice
                    continue
                packet = _shown(packet)
            places.add(place)
        step = packet.duration or step
        if packet.dts is None and packet.pts is None:
            packet.pts = packet.dts = latest = 0 if latest is None else latest + step
            is_behind_untimed = True
            yield packet
            continue
        pts, dts = (None if stamp is None else stamp + shift for stamp in (packet.pts, packet.dts))
        first = min(stamp for stamp in (pts, dts) if stamp is not None)
        is_new = order.is_new_run(pts, dts)
        if latest is not None and (is_new or (is_behind_untimed and first <= latest)):
            more = latest + step - first
            shift, order = shift + more, Order(leap)
            pts, dts = (None if stamp is None else stamp + more for stamp in (pts, dts))
            order.is_new_run(pts, dts)
        is_behind_untimed = False
        last = max(stamp for stamp in (pts, dts) if stamp is not None)
        if abs(last) > MAX_STAMP:
            raise CorruptMedia("times beyond all measure")
        latest = last if latest is None else max(latest, last)
        packet.pts, packet.dts = pts, dts
        yield packet


def _shown(packet: Packet[VideoStream]) -> Packet[VideoStream]:
    """The same but for the flag that keeps its frame from being shown, which can be set by a demuxer only."""
    other = cast("Packet[VideoStream]", Packet(bytes(packet)))
    for side_data in packet.iter_sidedata():
        other.set_sidedata(side_data)
    other.pts, other.dts, other.duration, other.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    other.is_keyframe, other.is_corrupt = packet.is_keyframe, packet.is_corrupt
    return other


def mark_needed(
    packets: Iterator[Packet[VideoStream]], wanted: Sequence[int] | None
) -> Iterator[tuple[Packet[VideoStream], bool, Sequence[int]]]:
    """Every packet, whether its frame is the one nearest a wanted moment among those of the packets around it, and the moments
    of those behind it, rising, as far as reordering reaches. Every frame is needed where ``wanted`` is None."""
    ahead: deque[Packet[VideoStream]] = deque()
    behind: deque[int] = deque()
    stamps: list[int] = []
    coming: list[int] = []
    ahead_bytes = 0
    while True:
        while len(ahead) <= REORDERED and ahead_bytes < LOOKAHEAD_BYTES and (packet := next(packets, None)) is not None:
            ahead.append(packet)
            ahead_bytes += packet.size
            if packet.pts is not None and not packet.is_discard:
                insort(stamps, packet.pts)
                insort(coming, packet.pts)
        if not ahead:
            return
        packet = ahead.popleft()
        ahead_bytes -= packet.size
        if packet.pts is not None and not packet.is_discard:
            del coming[bisect_left(coming, packet.pts)]
        if wanted is None:
            yield packet, True, coming
        elif packet.is_discard:
            yield packet, False, coming
        elif packet.pts is None or ahead_bytes >= LOOKAHEAD_BYTES:
            yield packet, True, coming
        else:
            yield packet, is_nearest(packet.pts, stamps, wanted), coming
        if packet.pts is not None and not packet.is_discard:
            behind.append(packet.pts)
            if len(behind) > REORDERED:
                del stamps[bisect_left(stamps, behind.popleft())]


def next_key(packets: Iterator[Packet[VideoStream]], pts: int) -> Packet[VideoStream] | None:
    """The next key frame, sought no further past ``pts`` than reordering reaches."""
    past = 0
    for packet in packets:
        if packet.is_keyframe:
            return packet
        stamp = stamp_of(packet)
        past += stamp is not None and stamp > pts
        if past > REORDERED:
            break
    return None


def skip_to_last_key(
    key: Packet[VideoStream], packets: Iterator[Packet[VideoStream]], pts: int
) -> tuple[Packet[VideoStream], Iterator[Packet[VideoStream]]]:
    """From the last key frame at or before ``pts``; the packets from it on, as far as they had to be read, are kept. From an
    earlier one where these would be more than ``LOOKAHEAD_BYTES``."""
    kept: list[Packet[VideoStream]] = []
    kept_bytes = 0
    for packet in packets:
        stamp = stamp_of(packet)
        if packet.is_keyframe and stamp is not None:
            if stamp > pts:
                kept.append(packet)
                break
            key, kept, kept_bytes = packet, [], 0
            continue
        kept.append(packet)
        kept_bytes += packet.size
        if kept_bytes > LOOKAHEAD_BYTES or (stamp is not None and len(kept) > REORDERED and stamp > pts):
            break
    return key, chain(kept, packets)


def is_nearest(pts: int, stamps: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether of ``stamps`` (rising, ``pts`` among them) ``pts`` is nearest to one of ``wanted``, the earlier of two as near."""
    at, behind = bisect_left(stamps, pts), bisect_right(stamps, pts)
    low = (stamps[at - 1] + pts) / 2 if at else -math.inf
    high = (pts + stamps[behind]) / 2 if behind < len(stamps) else math.inf
    place = bisect_right(wanted, low)
    return place < len(wanted) and wanted[place] <= high


def stamp_of(packet: Packet[VideoStream]) -> int | None:
    """When the packet's frame is shown; of formats that do not say (AVI), when it is decoded."""
    return packet.pts if packet.pts is not None else packet.dts
