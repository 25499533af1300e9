"""What every live source is turned into: pieces, each a small file that decodes by itself, and gaps where there is none.

Times are seconds on the watch's clock: 0 is where watching began, and it runs on over discontinuities, wraps of the stream's own
clock and gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from worker.types import Json

MAX_PIECE_BYTES: Final = 64 << 20
"""A piece is held in memory."""
LONGEST_GAP_S: Final = 3600.0
"""By more the clock never goes on at once, whatever a server says."""

Cause = Literal["not_served", "unreadable", "behind", "outage"]
"""No longer there when we came for it; what does not decode; left out to keep up; while there was no connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """``data`` decodes by itself, its first frame at ``start_s``. ``position``: a reader made with it goes on behind this piece.
    ``behind_s``: so much more is waiting already."""

    data: bytes
    start_s: float
    duration_s: float
    position: Json
    behind_s: float = 0.0

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch that nobody can look at."""

    start_s: float
    duration_s: float
    cause: Cause
    position: Json

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


class LiveReader(Protocol):
    """Reads one stream, once."""

    def items(self, stop: Callable[[], bool]) -> Generator[Piece | Gap | None]:
        """Pieces and gaps in rising time as they come; None every so often while there is nothing. It ends with the stream.
        Where it waits for bytes without a word, ``stop`` is asked at least each second, and ends it.

        Raises FetchError (of a file SourceError) where the stream cannot be had, at once or any more, and MediaError where it is
        none that is read. Closing the iterator closes what it opened.
        """
        ...
