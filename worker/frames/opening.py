"""The first packets of a file and the frames that they gave: decoding goes on behind them, rather than begin again."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import chain

import av
from av.packet import Packet
from av.video.stream import VideoStream

from worker.frames.packets import LOOKAHEAD_BYTES

PACKET_BYTES = 1024
"""About what a packet takes beside its data."""


class Opening:
    """An iterator over ``head``, a file's first packet, and those behind it, that keeps what it gave, up to ``LOOKAHEAD_BYTES``.
    ``alone_before``: whoever seeks a moment before this one (in ticks) finds no other key frame than ``head``."""

    def __init__(self, head: Packet[VideoStream], packets: Iterator[Packet[VideoStream]], alone_before: float) -> None:
        self._head, self._left, self._alone_before = head, chain((head,), packets), alone_before
        self._given: list[Packet[VideoStream]] = []
        self._left_bytes = LOOKAHEAD_BYTES
        self._frames: deque[list[av.VideoFrame]] = deque()

    def __iter__(self) -> Iterator[Packet[VideoStream]]:
        return self

    def __next__(self) -> Packet[VideoStream]:
        packet = next(self._left)
        self._left_bytes -= packet.size + PACKET_BYTES
        if self._left_bytes < 0:  # however long a file is, nothing of it may decode
            self._alone_before = -math.inf
            self._given.clear()
            self._frames.clear()
        if self._alone_before > -math.inf:
            self._given.append(packet)
        return packet

    def note(self, frames: list[av.VideoFrame]) -> None:
        """What the next packet gave when it was decoded, or, behind the last, the decoder's end."""
        if self._alone_before > -math.inf:
            self._frames.append(frames)

    def leads_to(self, pts: int) -> bool:
        """Whether a seek to ``pts`` would end at ``head``."""
        return pts < self._alone_before and self._head.is_keyframe

    def again(self) -> tuple[Packet[VideoStream], Iterator[Packet[VideoStream]], deque[list[av.VideoFrame]]]:
        """``head``, all behind it, and what was noted, from ``head`` on."""
        return self._head, chain(self._given[1:], self._left), self._frames
