"""What a demuxer says beside one packet and means for all behind it: parameter sets and colours, which a seek would pass over."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import Any, Final, Literal

from av.packet import Packet, PacketSideData
from av.video.stream import VideoStream

from worker.frames.timeline import INDEXED

Kind = Literal["palette", "new_extradata"]
_NUMBERS: Final[dict[Kind, int]] = {"palette": 0, "new_extradata": 1}
"""FFmpeg's (``AVPacketSideDataType``)."""
_place = itemgetter(0)


class Lasting:
    """Of one stream, ``extradata`` what its head says. A demuxer says what holds from a place on where the file does, and no
    more where it goes on behind that; of MP4 and its kin it says so wherever it goes on, if it said something else last."""

    def __init__(self, container: str, extradata: bytes | None) -> None:
        self._is_said_anew = container in INDEXED
        self._at_first: dict[Kind, bytes | None] = {"palette": None, "new_extradata": extradata}
        self._said: dict[Kind, list[tuple[int, bytes]]] = {kind: [] for kind in _NUMBERS}
        """From which place in the file on, rising, and what."""

    def add_to(self, packet: Packet[VideoStream], *, is_first: bool) -> None:
        """Note what is said beside a packet. A key frame, and the first packet behind a seek, are given what else holds there."""
        place = 0 if self._is_said_anew or packet.pos is None else packet.pos
        for kind, said in self._said.items():
            behind = bisect_right(said, place, key=_place)
            if packet.has_sidedata(kind):
                here, data = bisect_left(said, place, key=_place), bytes(packet.get_sidedata(kind))
                said[here:behind] = [] if here and said[here - 1][1] == data else [(place, data)]
            elif said and (is_first or packet.is_keyframe):
                holds = said[behind - 1][1] if behind else self._at_first[kind]
                if holds:
                    packet.set_sidedata(_made(kind, holds))

    def begin_anew(self) -> None:
        """Another demuxer reads the same file from its first byte: what that one does not say is as in the head."""
        head = self._at_first["new_extradata"]
        if self._is_said_anew and head and self._said["new_extradata"]:
            self._said["new_extradata"] = [(0, head)]


def _made(kind: Kind, data: bytes) -> PacketSideData:
    make: Any = PacketSideData  # PyAV's stubs lack its constructor
    made: PacketSideData = make(_NUMBERS[kind], len(data))
    made.update(data)
    return made
