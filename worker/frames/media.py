"""Media in a decoding child, as the parent sees them: passes, and frames that lie in shared memory until they are let go.

The shared memory is cut into equal slots, whose numbers go back and forth as credits: the child fills those that are free, ahead
of what was asked for, and waits when there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.errors import MediaError
from worker.frames import layout, sampling, wire
from worker.frames.peer import Peer
from worker.frames.sharing import SharedBytes
from worker.types import Frame, Json, MediaInfo, MediaKind, SamplingRequest

FRAMES_AHEAD = 8
"""Of a pass that is taken frame by frame, so many are decoded ahead at most."""
MAX_SLOTS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Shared memory cut into ``slots`` of ``slot_bytes``, for frames of at most ``max_pixels``."""

    shared: SharedBytes
    slots: int
    slot_bytes: int
    max_pixels: int


class SandboxedMedia:
    """``SharedMedia`` over a child. One pass at a time: a new one ends the one before."""

    def __init__(self, peer: Peer, info: MediaInfo, room: Room) -> None:
        self._peer = peer
        self._info = info
        self._room = room
        self._pass: _Pass | None = None

    @property
    def info(self) -> MediaInfo:
        return self._info

    @property
    def child_pid(self) -> int:
        return self._peer.pid

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """Arrays are read-only and lie in shared memory: the next frame, or leaving ``open``, may change them."""
        lists = self._lists(self._begin(request, FRAMES_AHEAD), 1)
        return (frame for frames in lists for frame in frames)

    def batches(self, request: SamplingRequest, *, max_frames: int) -> Iterator[Sequence[Frame]]:
        """As ``frames``, in lists of one size of frame: the next list, or leaving ``open``, may change the arrays. No list has
        more than ``max_frames``, nor fills more than half of the shared memory (but always one frame): the rest is for the list
        after it, decoded meanwhile."""
        most = min(max_frames, (self._room.slots + 1) // 2)
        return self._lists(self._begin(request, 2 * most), most)

    def _begin(self, request: SamplingRequest, ahead: int) -> _Pass:
        if self._pass is not None:
            self._pass.end()
        self._pass = _Pass(self._peer, self._info, self._room, request, min(ahead, self._room.slots))
        return self._pass

    def _lists(self, current: _Pass, most: int) -> Iterator[Sequence[Frame]]:
        first: list[_Placed] = []
        failure: MediaError | None = None
        while current is self._pass:
            if failure is not None:
                raise failure
            if current.is_over and not first:
                return
            held, first = first, []
            try:
                while len(held) < most and not first and (placed := current.next()):
                    (held if not held or _size(placed) == _size(held[0]) else first).append(placed)
            except MediaError as exc:
                failure = exc
            if held:  # good, whatever came after
                yield [placed.frame for placed in held]
            if current is self._pass and failure is None:
                current.let_go(held)
        raise RuntimeError("a later pass over the media ended this one")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    slot: int
    frame: Frame


def _size(placed: _Placed) -> tuple[int, int]:
    return placed.frame.height, placed.frame.width


class _Pass:
    """The frames of one pass as they come, and whose the slots are. What comes must be what an honest child would send."""

    def __init__(self, peer: Peer, info: MediaInfo, room: Room, request: SamplingRequest, slots: int) -> None:
        self._peer = peer
        self._info = info
        self._room = room
        self._free = set(range(slots))
        self._slots = slots
        self._left = _most_frames(request, info)
        self._last_s = float("-inf")
        self.is_over = False
        peer.send({"frames": wire.request_to(request), "slots": slots, "slot_bytes": room.slot_bytes})

    def next(self) -> _Placed | None:
        """The next frame, None after the last. Raises a MediaError or DecodeError."""
        if self.is_over:
            return None
        message = self._peer.receive()
        if "end" in message:
            self.is_over = True
            return None
        header = self._header(message)
        self._left -= 1
        if header.pts_s <= self._last_s or self._left < 0:
            raise self._peer.broke_protocol(wire.ProtocolError("frames out of order, or more than asked for"))
        self._last_s = header.pts_s
        self._free.discard(header.slot)
        return _Placed(slot=header.slot, frame=self._frame(header))

    def let_go(self, frames: Sequence[_Placed]) -> None:
        """The child may write over these frames."""
        for placed in frames:
            self._free.add(placed.slot)
            if not self.is_over:
                self._peer.send({"slot": placed.slot})

    def end(self) -> None:
        """Ask the child to stop, and pass over what it had sent already."""
        if self.is_over:
            return
        self._peer.send({"stop": True})
        for _ in range(self._slots + 1):
            if "end" in self._peer.receive():
                self.is_over = True
                return
        raise self._peer.broke_protocol(wire.ProtocolError("frames without a slot"))

    def _header(self, message: Json) -> wire.FrameHeader:
        try:
            return wire.frame_from(
                wire.part_of(message, "frame"),
                layout=self._info.layout,
                max_pixels=self._room.max_pixels,
                duration_s=self._info.duration_s,
                slots=self._free,
                slot_bytes=self._room.slot_bytes,
            )
        except wire.ProtocolError as exc:
            raise self._peer.broke_protocol(exc) from exc

    def _frame(self, header: wire.FrameHeader) -> Frame:
        return layout.read(
            self._room.shared,
            header.slot * self._room.slot_bytes,
            header.pts_s,
            (header.height, header.width),
            self._info.layout,
            header.matrix,
            header.full_range,
        )


def slots_for(info: MediaInfo, bound_bytes: int) -> int:
    """How many frames as large as announced ``bound_bytes`` hold, at least one."""
    return max(1, min(MAX_SLOTS, bound_bytes // layout.bytes_of(info.height, info.width, info.layout)))


def _most_frames(request: SamplingRequest, info: MediaInfo) -> int:
    """No plan of the request has more moments. ``n_frames`` may be an estimate that is too low, so it bounds nothing here."""
    if info.kind is MediaKind.PICTURE:
        return 1
    if request.times_s is not None:
        return min(len(request.times_s), request.max_frames or len(request.times_s))
    asked = sampling.frames_asked(request, info.duration_s, sampling.MAX_FPS_TIMES)
    return request.max_frames or sampling.FIRST_PASS_MAX if asked is None else asked
