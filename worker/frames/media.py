"""Media in a decoding child, as the parent sees them: passes, and frames that lie in shared memory while anybody looks at them.

The shared memory is cut into equal slots. A slot is free, lent to the child to be filled, or held: by a frame given out, until no
array refers to it any more, on whatever thread that ends. So nobody copies frames, nor has to give them back.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from functools import partial

from worker.frames import layout, sampling, wire
from worker.frames.peer import Peer
from worker.frames.sharing import SharedMemory
from worker.types import Frame, Json, MediaInfo, MediaKind, SamplingRequest, UInt8

FRAMES_AHEAD = 4
"""The child decodes at most so many frames ahead."""
SPARE_SLOTS = 2
"""Where frames that are held leave fewer slots than these, the next is given out as a copy: decoding never waits for a reader."""
MAX_SLOTS = 128


class Room:
    """Shared memory of ``slots`` times ``slot_bytes``, for frames of at most ``max_pixels``."""

    def __init__(self, shared: SharedMemory, slots: int, slot_bytes: int, max_pixels: int) -> None:
        self.shared = shared
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.max_pixels = max_pixels
        self._free = [*reversed(range(slots))]
        """The last is lent first: memory that was used before."""
        self._let_go: deque[int] = deque()
        """Appended to by whichever thread drops the last reference."""

    @property
    def n_free(self) -> int:
        while self._let_go:
            self._free.append(self._let_go.popleft())
        return len(self._free)

    def lend(self) -> int:
        """A free slot; there must be one."""
        return self._free.pop()

    def take_back(self, slot: int) -> None:
        self._free.append(slot)

    def hold(self, slot: int) -> UInt8:
        """The slot's memory: the slot is free again when nothing refers to that."""
        return self.shared.part(slot * self.slot_bytes, self.slot_bytes, partial(self._let_go.append, slot))


class SandboxedMedia:
    """``OpenMedia`` over a child. One pass at a time: a new one ends the one before."""

    def __init__(self, peer: Peer, info: MediaInfo, room: Room) -> None:
        self._peer = peer
        self._info = info
        self._room = room
        self._pass: _Pass | None = None
        self.lost_share = 0.0

    @property
    def info(self) -> MediaInfo:
        return self._info

    @property
    def child_pid(self) -> int:
        return self._peer.pid

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """Arrays are read-only and lie in shared memory as long as anything refers to them."""
        if self._pass is not None:
            self._pass.end()
        self._pass = _Pass(self._peer, self._info, self._room, request)
        return self._given(self._pass)

    def _given(self, current: _Pass) -> Iterator[Frame]:
        while current is self._pass:
            frame = current.next()
            if frame is None:
                self.lost_share = current.lost_share
                return
            yield frame
            del frame  # or its slot would stay held while the next is waited for
        raise RuntimeError("a later pass over the media ended this one")


class _Pass:
    """The frames of one pass as they come. What comes must be what an honest child would send."""

    def __init__(self, peer: Peer, info: MediaInfo, room: Room, request: SamplingRequest) -> None:
        self._peer = peer
        self._info = info
        self._room = room
        self._left = _most_frames(request, info)
        self._last_s = float("-inf")
        self._is_over = False
        self.lost_share = 0.0
        self._lent: set[int] = set()
        slots = self._lend()
        if not slots:
            raise RuntimeError("the picture was given already and is still held")
        peer.send({"frames": wire.request_to(request), "slots": slots, "slot_bytes": room.slot_bytes})

    def next(self) -> Frame | None:
        """The next frame, None after the last. Raises a MediaError or DecodeError."""
        for slot in self._lend():
            self._peer.send({"slot": slot})
        message = self._peer.receive()
        if "end" in message:
            self._close()
            self.lost_share = self._share(message)
            return None
        header = self._header(message)
        self._left -= 1
        if header.pts_s <= self._last_s or self._left < 0:
            raise self._peer.broke_protocol(wire.ProtocolError("frames out of order, or more than asked for"))
        self._last_s = header.pts_s
        self._lent.discard(header.slot)
        return self._take(header)

    def end(self) -> None:
        """Ask the child to stop, and pass over what it had sent already."""
        if self._is_over:
            return
        self._peer.send({"stop": True})
        for _ in range(len(self._lent) + 1):
            if "end" in self._peer.receive():
                self._close()
                return
        raise self._peer.broke_protocol(wire.ProtocolError("frames without a slot"))

    def _lend(self) -> list[int]:
        """Slots that the child may fill from now on."""
        new = [self._room.lend() for _ in range(min(FRAMES_AHEAD - len(self._lent), self._room.n_free))]
        self._lent.update(new)
        return new

    def _close(self) -> None:
        self._is_over = True
        for slot in self._lent:
            self._room.take_back(slot)
        self._lent.clear()

    def _take(self, header: wire.FrameHeader) -> Frame:
        frame = self._read(self._room.hold(header.slot), header)
        is_crowded = self._room.n_free + len(self._lent) < SPARE_SLOTS
        return copy.deepcopy(frame) if is_crowded and self._info.kind is MediaKind.VIDEO else frame

    def _share(self, message: Json) -> float:
        try:
            return wire.share_from(message)
        except wire.ProtocolError as exc:
            raise self._peer.broke_protocol(exc) from exc

    def _header(self, message: Json) -> wire.FrameHeader:
        try:
            return wire.frame_from(
                wire.part_of(message, "frame"),
                layout=self._info.layout,
                max_pixels=self._room.max_pixels,
                duration_s=self._info.duration_s,
                slots=self._lent,
                slot_bytes=self._room.slot_bytes,
            )
        except wire.ProtocolError as exc:
            raise self._peer.broke_protocol(exc) from exc

    def _read(self, memory: UInt8, header: wire.FrameHeader) -> Frame:
        size = header.height, header.width
        return layout.read(memory, header.pts_s, size, self._info.layout, header.matrix, header.full_range)


def slots_for(info: MediaInfo, bound_bytes: int) -> int:
    """How many frames as large as announced ``bound_bytes`` hold, at least one."""
    return max(1, min(MAX_SLOTS, bound_bytes // layout.bytes_of(info.height, info.width, info.layout)))


def _most_frames(request: SamplingRequest, info: MediaInfo) -> int:
    """No plan of the request has more moments. ``n_frames`` may be an estimate that is too low, so it bounds nothing here."""
    if info.kind is MediaKind.PICTURE:
        return 1
    if request.times_s is not None:
        return min(len(request.times_s), request.max_frames or len(request.times_s))
    asked = sampling.frames_asked(request, info.duration_s)
    return request.max_frames or sampling.FIRST_PASS_MAX if asked is None else asked
