"""Where the frames of a stream lie in time: by an index that nothing can be hidden from, else by reading every packet.

The clock: t = 0 is the first frame shown, so a start offset and what an edit list cuts off are gone.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.stream import VideoStream

from worker.frames.reordering import Offsets
from worker.frames.sampling import Clip

INDEXED = frozenset(("mov,mp4,m4a,3gp,3g2,mj2",))
"""Containers of which FFmpeg reads what the index names and nothing else. Elsewhere an index may leave out what it likes."""
REORDERED = 32
"""Packets: twice the longest reordering of H.264 and HEVC."""
MAX_SPREAD_S = 2.0
"""Further apart than this, decoding and presentation make an index of decoding times worthless. Ordinary files: .5 at most."""
_ENTRY = np.dtype([("at", np.int64), ("is_key", np.bool_), ("is_discard", np.bool_)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Stream timestamps <-> seconds of the presentation."""

    start: int
    time_base: Fraction

    def seconds(self, pts: int) -> float:
        return (pts - self.start) * self.time_base.numerator / self.time_base.denominator

    def pts(self, time_s: float) -> int:
        return self.start + math.ceil(round(time_s / float(self.time_base) - 0.5, 6))  # of two as near the earlier; floats err


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The key frames that come in time, by when they are shown: ``shown`` and ``decoded`` in ticks, ``places`` in bytes (-1:
    unknown)."""

    shown: npt.NDArray[np.int64]
    decoded: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]

    def last(self, pts: int) -> tuple[int, int] | None:
        """When the last at or before ``pts`` is shown and decoded."""
        at = bisect_right(self.shown, pts) - 1
        return None if at < 0 else (int(self.shown[at]), int(self.decoded[at]))

    def has(self, shown: int, packet: Packet[VideoStream]) -> bool:
        """Whether the packet is one shown at that moment: two fields may be."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        low, high = np.searchsorted(self.shown, (shown, shown + 1))
        return stamp == shown and (-1 if packet.pos is None else packet.pos) in self.places[low:high]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """``clip`` is what planning needs, ``order`` and ``keys`` what reading the packets told, if they were read. ``keys`` is None,
    too, where a key frame is shown before one that comes before it: to be read on from, it leaves that out. ``may_repeat``: two
    pictures may have one moment."""

    clip: Clip
    n_frames: int
    has_edit_list: bool = False
    variable_rate: bool = False
    may_repeat: bool = False
    order: Order | None = None
    keys: Keys | None = None


class Order:
    """Whether packets come in time. ``is_new_run`` takes them in the file's order: true for one that is decoded before its
    forerunner, that is shown before a frame with which it can no longer change places, or as the third at one moment, or
    (where ``leap`` is given, in ticks) that comes so much later than all before it. One without any time is in no run.
    ``risen``: ticks by which time has gone on, leaps left out; however it is laid out, it lasts no less. ``latest``: the last
    moment so far.
    """

    def __init__(self, leap: int | None = None) -> None:
        self.count = self.passed = self.leaps = self.untimed = self.risen = 0
        self._untimed_in_a_row = self._longest_untimed = 0
        self._leap = leap
        self._dts: int | None = None
        self._recent: deque[int] = deque()
        self._settled: int | None = None
        self.latest: int | None = None

    def is_new_run(self, pts: int | None, dts: int | None) -> bool:
        self.count += 1
        shown = pts if pts is not None else dts
        if shown is None:
            self.untimed += 1
            self._untimed_in_a_row += 1
            self._longest_untimed = max(self._longest_untimed, self._untimed_in_a_row)
            return False
        self._untimed_in_a_row = 0
        is_passed = dts is not None and self._dts is not None and dts < self._dts
        is_passed = is_passed or (self._settled is not None and shown < self._settled) or self._recent.count(shown) > 1
        leaps = self._leap is not None and self.latest is not None and shown - self.latest > self._leap
        self.passed += is_passed
        self.leaps += leaps
        if self.latest is not None and not leaps:
            self.risen += max(shown - self.latest, 0)
        self._dts = dts if self._dts is None or dts is None else max(dts, self._dts)
        self.latest = shown if self.latest is None else max(shown, self.latest)
        self._recent.append(shown)
        if len(self._recent) > REORDERED:
            settled = self._recent.popleft()
            self._settled = settled if self._settled is None else max(settled, self._settled)
        return is_passed or leaps

    @property
    def restarts(self) -> bool:
        """More than the odd wrong stamp, which would hide no more than itself."""
        return self.leaps > 0 or self.passed > max(2, min(REORDERED, self.count // 50))

    @property
    def lacks_times(self) -> bool:
        """Of interlaced pictures in two packets every second one may have none."""
        return self._longest_untimed > REORDERED or self.untimed > 0.6 * self.count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Index:
    """When the pictures that a container's index names are decoded, in ticks, int64 [pictures]: all, those ``shown``, and
    ``keys`` among all. ``latest``: the latest moment shown of what is decoded with the last of them, or later, in ticks; None:
    unknown."""

    all: npt.NDArray[np.int64]
    shown: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    offsets: Offsets
    latest: int | None = None

    @property
    def second_key(self) -> float:
        """When the earliest key frame behind the first is decoded, in ticks; infinite where there is none."""
        return min(self.keys[1:].tolist(), default=math.inf)


def read_index(stream: VideoStream, time_base: Fraction, offsets: Offsets | None) -> Index | None:
    """None where the container has no index, one with gaps, one into which fragments were put, or one whose time does not rise;
    and where not all of its frames are shown about when they are decoded.

    ISO indexes hold decoding times: the distance from decoding to presentation of the first key frame holds for all of them
    closely enough to seek by, unless the distances (``offsets``; None: unknown) differ by more than ``MAX_SPREAD_S``, or one lays
    a picture behind a later key frame, which leaves it out if read on from.
    """
    entries = np.fromiter(((e.timestamp, e.is_keyframe, e.is_discard) for e in stream.index_entries), _ENTRY)
    shown, keys = entries["at"][~entries["is_discard"]], entries["at"][entries["is_key"]]
    if not len(keys) or not len(shown) or len(entries) > stream.frames or (len(entries) == len(keys) != stream.frames):
        return None
    if np.any(np.diff(shown) <= 0) or offsets is None or offsets.spread * time_base > MAX_SPREAD_S:
        return None
    of_entries = offsets.of(len(entries))
    if of_entries is None or not _keys_come_in_time(entries["at"] + of_entries, entries["is_key"]):
        return None
    return Index(all=entries["at"], shown=shown, keys=keys, offsets=offsets)


def from_index(index: Index, clock: Clock, first: Packet[VideoStream], header: Clip) -> Timeline | None:
    """None where it ends well before the clip does, or anything is shown well behind its end. ``header`` is what the file's head
    says of itself; frames that the index has beyond its length make the clip longer."""
    duration_s, fps, shown = header.duration_s, header.fps, index.shown
    has_edit_list = len(shown) < len(index.all)
    if has_edit_list:  # its length counts what is empty in front of the first picture
        duration_s += min(clock.seconds(0), 0.0)
    shift = 0
    if first.pts is not None and first.dts is not None and index.all[0] == first.dts:
        shift = first.pts - first.dts
    last_s = clock.seconds(int(shown[-1]) + shift)
    if duration_s - last_s > max(1.5, 0.05 * duration_s):
        return None
    measured_s = max(duration_s, last_s + _step(shown) * float(clock.time_base))
    if measured_s > 1.05 * duration_s:
        fps = len(shown) / measured_s
    if index.latest is None or clock.seconds(index.latest) > 1.05 * measured_s:
        return None
    return Timeline(
        clip=replace(header, duration_s=measured_s, fps=fps, keys_s=_seconds(index.keys + shift, clock)),
        n_frames=len(shown),
        has_edit_list=has_edit_list,
        variable_rate=_is_variable(shown),
        may_repeat=index.offsets.spread > 0,
    )


def _keys_come_in_time(shown: npt.NDArray[np.int64], is_key: npt.NDArray[np.bool_]) -> bool:
    """Whether no key frame is shown before a picture in front of it."""
    latest = np.maximum.accumulate(shown)
    return bool(np.all(latest[:-1][is_key[1:]] <= shown[1:][is_key[1:]]))


def from_packets(
    packets: Iterator[Packet[VideoStream]],
    clock: Clock,
    header: Clip,
    most_s: float,
    leap: int | None = None,
    *,
    may_be_edited: bool = False,
) -> Timeline:
    """By reading every packet, undecoded, until time has gone on by more than ``most_s``; ``leap`` as in ``Order``. A key frame
    whose time has passed stands for no moment: frames are given in time. ``may_be_edited``: what is not to be shown an edit list
    cuts off, and where it does so within the stream, some of that is decoded before what is shown next, and times go back."""
    pts, found, order, discards, are_whole = array("q"), array("q"), Order(leap), 0, True
    most = most_s / clock.time_base
    for packet in packets:
        stamp, latest = packet.pts if packet.pts is not None else packet.dts, order.latest
        is_cut_off = may_be_edited and packet.is_discard
        is_new_run = not is_cut_off and order.is_new_run(packet.pts, None if may_be_edited else packet.dts)
        discards += packet.is_discard
        if stamp is not None and not packet.is_discard:
            pts.append(stamp)
            if packet.is_keyframe and not is_new_run:
                are_whole = are_whole and (latest is None or latest <= stamp)
                decoded = packet.dts if packet.dts is not None else stamp
                found.extend((stamp, decoded, -1 if packet.pos is None else packet.pos))
        if order.risen > most:
            break
    shown = np.sort(np.asarray(pts, np.int64))
    keys_N3 = np.asarray(found, np.int64).reshape(-1, 3)
    keys_3N = np.ascontiguousarray(keys_N3[np.argsort(keys_N3[:, 0], kind="stable")].T)
    duration_s = header.duration_s
    if len(shown):
        duration_s = max(clock.seconds(int(shown[-1])) + _step(shown) * float(clock.time_base), 0.0)
    is_longer = duration_s > 1.05 * header.duration_s > 0
    return Timeline(
        clip=replace(
            header,
            duration_s=duration_s,
            fps=len(shown) / duration_s if duration_s and (is_longer or not header.fps) else header.fps,
            keys_s=_seconds(keys_3N[0], clock),
        ),
        n_frames=len(shown),
        has_edit_list=discards > 0,
        variable_rate=_is_variable(shown),
        may_repeat=bool(np.any(np.diff(shown) == 0)),
        order=order,
        keys=Keys(shown=keys_3N[0], decoded=keys_3N[1], places=keys_3N[2]) if are_whole else None,
    )


def _seconds(stamps: npt.NDArray[np.int64], clock: Clock) -> tuple[float, ...]:
    return tuple(clock.seconds(stamp) for stamp in np.unique(stamps).tolist())


def _step(stamps: npt.NDArray[np.int64]) -> float:
    steps = np.diff(stamps)
    return float(np.median(steps[steps > 0])) if np.any(steps > 0) else 0.0


def _is_variable(stamps: npt.NDArray[np.int64]) -> bool:
    """Whether neighbouring distances differ by more than rounding: the longest over 1.5 times the shortest."""
    steps = np.diff(stamps)
    steps = steps[steps > 0]
    return len(steps) > 1 and bool(steps.max() > 1.5 * steps.min() and np.ptp(steps) > 1)
