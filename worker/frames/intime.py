"""Decoded frames put in time: a decoder gives them in an order of its own, and nobody sees to it that their times rise in it."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import count

import av

from worker.errors import CorruptMedia

DELAYED = 16
"""Packets: no decoder of H.264 or HEVC holds a picture back for longer, on one thread; each further one adds a packet."""
MAX_KEPT_BYTES = 512 * 1024**2
"""Thirty-two pictures of 4K, or ten of 8K."""


class InTime:
    """Frames by when they are shown, none before ``floor``, of two of one moment the first decoded first.

    A frame is kept back while a packet that is to be shown before it is among those to be decoded next, or went into the
    decoder shortly before; of ordinary files none is. ``goes_back``: a frame came behind one shown later that was given.
    ``lacks``: one that was to come did not, or not before one shown later.
    """

    def __init__(self, floor: int, *, goes_back: bool = False, threads: int = 1, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self.goes_back = goes_back
        self.lacks = False
        self._max_kept_bytes = max_kept_bytes
        self._last = floor
        self._has_given = False
        self._sent: deque[int | None] = deque(maxlen=DELAYED + threads - 1)
        self._kept: list[tuple[int, int, int, av.VideoFrame]] = []
        self._kept_bytes = 0
        self._number = count()

    def send(self, stamp: int | None) -> None:
        """A packet went into the decoder, and a frame of this moment is to come out; None where it need not."""
        self.lacks = self.lacks or (len(self._sent) == self._sent.maxlen and self._sent[0] is not None)
        self._sent.append(stamp)

    def give(self, frames: Sequence[av.VideoFrame], coming: Sequence[int], *, delays: bool) -> Iterator[av.VideoFrame]:
        """Of these, which have just come out of the decoder, and of those kept back the ones whose turn it is. ``coming``: the
        moments of the packets to be decoded next, rising; ``delays``: whether the decoder holds frames back.

        Raises CorruptMedia where so many pictures, or such large ones, cannot all be kept back.
        """
        for frame in frames:
            pts = pts_of(frame)
            if pts in self._sent:
                self._sent[self._sent.index(pts)] = None
            if pts >= self._last:
                size_bytes = sum(plane.buffer_size for plane in frame.planes)
                heappush(self._kept, (pts, next(self._number), size_bytes, frame))
                self._kept_bytes += size_bytes
            else:
                self.goes_back = self.goes_back or self._has_given
        while self._kept and not self._is_awaited(coming, delays and self._fits()):
            self._last, _, size_bytes, frame = heappop(self._kept)
            self._kept_bytes -= size_bytes
            self._has_given = True
            self.lacks = self.lacks or any(stamp is not None and stamp < self._last for stamp in self._sent)
            yield frame
        if not self._fits():
            raise CorruptMedia("too many large pictures whose time goes back")

    def _fits(self) -> bool:
        return len(self._kept) < 2 or self._kept_bytes <= self._max_kept_bytes

    def _is_awaited(self, coming: Sequence[int], delays: bool) -> bool:
        """Whether something is to be shown before the first that is kept. The second of two fields never comes out of a decoder:
        interlaced frames do not wait for it until one is known to come late."""
        first, _, _, frame = self._kept[0]
        at = bisect_left(coming, self._last)
        if at < len(coming) and coming[at] < first:
            return True
        may_be_held = delays and (self.goes_back or not frame.interlaced_frame)
        return may_be_held and any(stamp is not None and self._last <= stamp < first for stamp in self._sent)


def pts_of(frame: av.VideoFrame) -> int:
    if frame.pts is None:
        raise CorruptMedia("a frame without a timestamp")
    return frame.pts
