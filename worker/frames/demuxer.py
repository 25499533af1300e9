"""Packets of one video stream, from any place in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from worker.errors import CorruptMedia, MediaTooLarge, OutOfMemory
from worker.frames import probe
from worker.frames.lasting import Lasting
from worker.frames.limits import Limits
from worker.frames.packets import laid_out, stamp_of

UNTIMED_FORMATS = frozenset(("avi",))
"""Formats that say only when a packet is decoded: their frames get these times in the order in which they are shown."""
UNDECODED_FORMATS = frozenset(("matroska,webm", "ogg", "ivf"))
"""Formats that say only when a packet is shown. When it is decoded FFmpeg then guesses, and guesses wrong where the reordering
gets deeper than the head of the stream says."""
DENSE_FORMATS = frozenset(("mpegts", "mpeg"))
"""Formats whose pictures must be at most .7 s apart (ISO/IEC 13818-1): a leap of the clock is another recording's beginning."""
LEAP_S = 10
BEFORE_START_S = 10
MAX_BAD_READS = 100
"""Read errors in a row after which the rest of a file is given up."""

Reopen = Callable[[], tuple[InputContainer, VideoStream]]
"""Gives the same stream anew, its file read from the first byte."""


@dataclass(slots=True)
class Counts:
    """What a file has cost so far; ``bad`` counts packets that could not be read or decoded."""

    packets: int = 0
    decoded: int = 0
    bad: int = 0


class Demuxer:
    """Moments are in ticks of the stream's time base. ``on_leave`` is called before it goes to another place in the stream. One
    iterator at a time is valid."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        limits: Limits,
        reopen: Reopen,
        on_leave: Callable[[], None] = lambda: None,
    ) -> None:
        self.stream = stream
        self.counts = Counts()
        self.is_laid_out = self._shows_passed = False
        self._container = container
        self._reopen = reopen
        self._on_leave = on_leave
        self._head: tuple[int | None, int] | None = None
        self._begun: Iterator[Packet[VideoStream]] | None = None
        self._limits = limits
        name = container.format.name
        self._lasting = Lasting(name, stream.codec_context.extradata)
        self.is_untimed, self._lacks_dts = name in UNTIMED_FORMATS, name in UNDECODED_FORMATS
        self._leap = round(LEAP_S / time_base_of(stream))
        self.leap = self._leap if name in DENSE_FORMATS else None

    def begin(self) -> None:
        """Read the first packet, which ``packets`` gives all the same: what ``rewind`` is held to."""
        if self._begun is None:
            self._is_at_start()

    def lay_out(self, *, lacks_times: bool, shows_passed: bool) -> None:
        """From now on each run of time behind the one before; where packets lack times, frames get those of the packets in the
        order in which they are shown. ``shows_passed``: as in ``laid_out``."""
        self.is_laid_out, self._shows_passed = True, shows_passed
        self.is_untimed = self.is_untimed or lacks_times
        self.rewind()

    def seek(self, pts: int) -> None:
        """To the last place before ``pts`` from which the demuxer can read on; to the start where it knows none."""
        self._leave()
        if not self._goes_to(pts):
            self.rewind()

    def _goes_to(self, moment: int, *, any_frame: bool = False) -> bool:
        """Whether the demuxer knows a place for it, and stands there now. Raises OutOfMemory."""
        try:
            self._container.seek(moment, stream=self.stream, any_frame=any_frame)
        except av.error.MemoryError as exc:
            raise OutOfMemory(f"seeking: {exc.strerror}") from exc
        except av.error.FFmpegError:
            return False
        return True

    def rewind(self) -> None:
        """To the first packet. A moment well before the start finds it in most formats; some know their first moment only, and
        where an index begins later, or packets lack times, the file is opened again. Raises CorruptMedia."""
        self._leave()
        start = self.stream.start_time or 0
        if not self._goes_to(start - round(BEFORE_START_S / time_base_of(self.stream))):
            self._goes_to(start)
        if not self._is_at_start():
            self._container, self.stream = self._reopen()
            self._lasting.begin_anew()
            if not self._is_at_start():
                raise CorruptMedia("the file cannot be read from its start again")

    def _is_at_start(self) -> bool:
        """Whether the next packet, kept for ``packets``, is the first that the file gave when it was opened."""
        packets = self._packets()
        packet = next(packets, None)
        self._begun = packets if packet is None else chain((packet,), packets)
        if packet is not None and self._head is None:
            self._head = packet.pos, packet.size
        return self._head is None or (packet is not None and (packet.pos, packet.size) == self._head)

    def ends_where_its_index_ends(self) -> bool:
        """Whether the file has no packet behind the last that its index names: fragments may be announced where only FFmpeg
        looks, and are put into the index when they are reached. False, too, where reading on fails."""
        entries = self.stream.index_entries
        known = len(entries)
        self._leave()
        behind = entries[known - 1].timestamp + round(BEFORE_START_S / time_base_of(self.stream))
        if not self._goes_to(behind, any_frame=True):
            return False
        try:
            return all(len(self.stream.index_entries) == known for _ in self._container.demux(self.stream))
        except av.error.MemoryError as exc:
            raise OutOfMemory(f"reading on behind the index: {exc.strerror}") from exc
        except av.error.FFmpegError:
            return False

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """On from here to the end. Raises MediaTooLarge beyond the packet limit, OutOfMemory, and CorruptMedia for times that
        do not fit."""
        packets, self._begun = self._begun or self._packets(), None
        return laid_out(packets, self._leap, shows_passed=self._shows_passed) if self.is_laid_out else packets

    def _leave(self) -> None:
        self._on_leave()
        self._begun = None

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        count = bad_in_a_row = 0
        while bad_in_a_row < MAX_BAD_READS:
            try:
                for packet in self._container.demux(self.stream):
                    if not packet.size and stamp_of(packet) is None:
                        return
                    bad_in_a_row = 0
                    count += 1
                    self.counts.packets += 1
                    if count > self._limits.max_packets:
                        raise MediaTooLarge(f"more than {self._limits.max_packets} packets")
                    if packet.size:
                        self._lasting.add_to(packet, is_first=count == 1)
                        if self.is_untimed and packet.dts is not None:
                            packet.pts = packet.dts
                        elif self._lacks_dts and packet.pts is not None:
                            packet.dts = None
                        yield packet
                return
            except av.error.MemoryError as exc:
                raise OutOfMemory(f"reading a packet: {exc.strerror}") from exc
            except av.error.FFmpegError:
                probe.check_disk(int(self._container.options["fd"]))
                bad_in_a_row += 1
                self.counts.bad += 1

    def latest_from(self, dts: int) -> int | None:
        """The latest moment shown by a packet that is decoded at ``dts`` or later, or a little earlier; None without any."""
        self._leave()
        if not self._goes_to(dts, any_frame=True):
            return None
        stamps = (stamp_of(packet) for packet in self.packets() if not packet.is_discard)
        return max((stamp for stamp in stamps if stamp is not None), default=None)

    def packets_from(self, pts: int) -> Iterator[Packet[VideoStream]]:
        """As ``packets``, after ``seek``."""
        self.seek(pts)
        return self.packets()


def time_base_of(stream: VideoStream) -> Fraction:
    """Seconds of a tick. Raises CorruptMedia."""
    if not stream.time_base:
        raise CorruptMedia("a stream without a time base")
    return stream.time_base
