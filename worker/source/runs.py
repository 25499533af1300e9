"""Several runs of fragmented MP4, each with an initialisation and times of its own, as one file.

That is how a recording comes whose HLS playlist has discontinuities, or whose DASH manifest has periods. They are joined where
all of them are decoded alike: the first initialisation stands for all, and times are laid one run behind the other. Otherwise it
would take a new multiplexing, which is not done on a stranger's bytes outside of the decoder's sandbox.
"""

from __future__ import annotations

from worker.errors import CorruptMedia, UnsupportedMedia
from worker.source.fragments import Described, described, retimed, without_lengths
from worker.source.parts import Part


class Runs:
    """``take`` parts in order. Raises UnsupportedMedia for an initialisation of another kind or a run that does not say how long
    it is, CorruptMedia for times beyond all measure."""

    def __init__(self) -> None:
        self._first: Described | None = None
        self._begins: dict[bytes, int] = {}
        self._starts: dict[bytes, int] = {}
        self._clock_s = self._began_s = 0.0

    def take(self, part: Part, data: bytes) -> bytes:
        """What is to be written of it."""
        if part.is_init:
            return self._begin(data)
        self._clock_s += part.duration_s
        try:
            return retimed(data, self._begins, self._starts)
        except OverflowError as exc:
            raise CorruptMedia("times that do not fit") from exc

    def _begin(self, init: bytes) -> bytes:
        found = described(init)
        if self._first is not None and (found != self._first or not found.decoding):
            raise UnsupportedMedia("the stream changes in the middle to what is decoded otherwise")
        if self._first is not None and self._clock_s <= self._began_s:
            raise UnsupportedMedia("a stream of several runs that does not say how long they are")
        self._began_s = self._clock_s
        self._begins = {}
        self._starts = {track: round(self._clock_s * timescale) for track, timescale in found.timescales.items()}
        is_first, self._first = self._first is None, found
        return without_lengths(init) if is_first else b""
