"""A file that something else is still writing, read as a stream until it does not grow any more."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from worker.errors import EmptyMedia, SourceError, UnsupportedMedia
from worker.program_tables import PACKET
from worker.source.live.cuts import Cut, Cutter, StreamClock
from worker.source.live.flv import FlvCutter
from worker.source.live.mpegts import TsCutter, is_mpegts
from worker.source.live.patience import Patience
from worker.source.live.pieces import Gap, Piece
from worker.types import Json

_PORTION: Final = 1 << 18
_HEAD: Final = 3 * PACKET
_POLL_S: Final = 0.5
_LEARNT: Final = 1 << 20
"""So much of the beginning is read again for what is said only there."""
_EBML: Final = b"\x1a\x45\xdf\xa3"


class GrowingFile:
    """A ``LiveReader``. ``patience`` says how long it may stay as it is: then it has ended. Nothing is left out of it: it
    does not go away. Where less than three quarters of what was read are there, it was cut to nothing and is written anew: it is
    read from its beginning, and what its clock says was between is a gap. A recorder may trim some of the end.
    """

    def __init__(self, path: Path, *, cut_s: float, patience: Patience, position: Json | None = None) -> None:
        self._path, self._cut_s, self._patience = path, cut_s, patience
        self._position = position

    def items(self, stop: Callable[[], bool]) -> Generator[Piece | Gap | None]:
        with _readable(self._path), _open(self._path) as file:
            while (yield from self._to_its_end(file)):
                self._begin_anew(file)

    def _to_its_end(self, file: FileIO) -> Generator[Piece | Gap | None, None, bool]:
        """From the position on. Whether it is written anew then, instead of having ended."""
        head = yield from self._head(file)
        if head is None:
            return False
        cutter = cutter_of(head, self._cut_s)()
        clock = StreamClock(cutter.wrap_s, self._position)
        if self._position is not None and self._position["at"]:
            for _ in cutter.feed(file.read(_LEARNT)):
                pass
            file.seek(int(self._position["at"]))
            if _is_anew(file):
                return True
            cutter.skip_to(file.tell())
        begins_at = file.tell()
        while True:
            data = file.read(_PORTION)
            is_anew = not data and _is_anew(file)
            is_over = is_anew or (not data and self._patience.is_over())
            found: Iterator[Cut] | list[Cut] = cutter.feed(data)
            if is_over:
                rest = cutter.rest()
                found = [] if rest is None else [rest]
            for cut in found:
                for item in _placed(cut, clock, begins_at):
                    self._position = item.position
                    yield item
                begins_at = cut.end_at
            if is_over:
                return is_anew
            if data:
                self._patience.came()
            else:
                yield from self._patience.wait(_POLL_S)

    def _begin_anew(self, file: FileIO) -> None:
        """What is written now may go on by the stream's clock, or be another stream."""
        file.seek(0)
        if self._position is not None:
            self._position = {**self._position, "at": 0}

    def _head(self, file: FileIO) -> Generator[None, None, bytes | None]:
        """The first bytes, as soon as there are enough; None where there are none any more. Raises EmptyMedia where there never
        are."""
        while len(head := os.pread(file.fileno(), _HEAD, 0)) < _HEAD:
            if self._patience.is_over():
                if self._position is not None:
                    return None
                raise EmptyMedia("the file does not grow, and is too small for a stream")
            yield from self._patience.wait(_POLL_S)
        return head


def _placed(cut: Cut, clock: StreamClock, begins_at: int) -> Iterator[Piece | Gap]:
    placed = clock.place(cut)
    if placed.gap_s:
        before = {"kind": "file", "at": begins_at, "clock_s": placed.start_s, "raw_s": cut.begin_s}
        start_s = placed.start_s - placed.gap_s
        yield Gap(start_s=start_s, duration_s=placed.gap_s, cause="not_served", position=before)
    position = {"kind": "file", "at": cut.end_at, **clock.state()}
    yield Piece(data=cut.data, start_s=placed.start_s, duration_s=placed.duration_s, position=position)


def cutter_of(head: bytes, cut_s: float) -> Callable[[], Cutter]:
    """What cuts a stream that begins so. Raises UnsupportedMedia."""
    if is_mpegts(head):
        return lambda: TsCutter(cut_s)
    if head.startswith(b"FLV"):
        return lambda: FlvCutter(cut_s)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"styp"):
        raise UnsupportedMedia(
            "MP4 cannot be read while it grows: its index comes at the end; record MPEG-TS, or scan it when done"
        )
    if head.startswith(_EBML):
        raise UnsupportedMedia("Matroska and WebM are not read while they grow: record MPEG-TS, or scan the file when it is done")
    raise UnsupportedMedia("no stream that is read as it grows: MPEG-TS and FLV are")


def _is_anew(file: FileIO) -> bool:
    """Whether far less is there than was read."""
    return 4 * os.fstat(file.fileno()).st_size < 3 * file.tell()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A file that cannot be opened, or not be read any further (a disk, a server of files), as SourceError."""
    try:
        yield
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror}") from exc


def _open(path: Path) -> FileIO:
    file = FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise SourceError(f"{path} is not a regular file")
    return file
