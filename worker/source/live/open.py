"""Which reader an address or a file needs; what it is, is looked at when it is read, not before."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.errors import DamagedRecord, FetchError, FetchTimeout, UnreadableRecord, UnsupportedMedia
from worker.source.answers import NOTHING_YET, check_serving, decoded
from worker.source.client import Stopped
from worker.source.http import HttpSource, Stop
from worker.source.live.byte_stream import ByteStreamReader
from worker.source.live.connection import Connection
from worker.source.live.flv import FlvCutter
from worker.source.live.growing import GrowingFile, cutter_of
from worker.source.live.hls import HlsReader
from worker.source.live.mpegts import TsCutter
from worker.source.live.patience import Patience
from worker.source.live.pieces import Gap, LiveReader, Piece
from worker.source.sniff import HEAD_BYTES, Kind, sniff
from worker.types import Json

_RELAYED: Final = frozenset(("rtmp", "rtmps", "rtmpe", "rtmpt", "rtsp", "rtsps", "srt", "udp", "rtp", "mms"))
_OF_BYTES: Final = ("at", "clock_s", "raw_s")
POSITIONS: Final = {"hls": ("sequence", "clock_s"), "ts": _OF_BYTES, "flv": _OF_BYTES, "file": _OF_BYTES}
"""What a position holds, by its kind. Part of a cursor's layout (``worker.watch.cursor.VERSION``)."""
LATER: Final = {"hls": ("at",)}
"""What it holds as well, unless a version before made it; that goes on from one that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """``cut_s``: least length of a piece of MPEG-TS or FLV. ``give_up_s``: without anything new for so long an address counts as
    lost; ``file_ends_s``: and a file as finished."""

    max_behind_s: float
    give_up_s: float
    file_ends_s: float
    cut_s: float
    max_side_px: int
    max_segments: int


def check_protocol(url: str) -> None:
    """Raises UnsupportedMedia for the protocols that need a relay."""
    scheme = url.partition("://")[0].lower()
    if scheme in _RELAYED:
        raise UnsupportedMedia(
            f"{scheme}:// is not read: put a relay in front that gives HLS, for instance nginx with its rtmp module or MediaMTX, "
            "and watch that"
        )


class LiveSource:
    """Makes readers of addresses and files. ``wall``: Unix time on the clock of all who watch a stream in turn. ``now`` and
    ``sleep`` may be a test's."""

    def __init__(
        self,
        http: HttpSource,
        options: LiveOptions,
        *,
        wall: Callable[[], float],
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http, self._options = http, options
        self._now, self._sleep, self._wall = now, sleep, wall

    def address(self, url: str) -> Callable[[Json | None], LiveReader]:
        """A reader of ``url`` from a position on. Raises FetchRefused, UnsupportedMedia."""
        check_protocol(url)
        self._http.guard.check_url(url)
        return lambda position: _Address(self, url, _said(position))

    def file(self, path: Path) -> Callable[[Json | None], LiveReader]:
        """A reader of a growing file from a position on."""
        return lambda position: GrowingFile(
            path, cut_s=self._options.cut_s, patience=self._patience(self._options.file_ends_s), position=_said(position)
        )

    def _patience(self, give_up_s: float) -> Patience:
        return Patience(give_up_s, now=self._now, sleep=self._sleep)

    def _kind(self, url: str, stop: Stop) -> str:
        """By the first bytes. Raises FetchError, UnsupportedMedia, Stopped."""
        with self._http.session(stop) as session, session.translated(), session.answer(url) as response:
            check_serving(response)
            head = b""
            for data in decoded(response, response.iter_raw()):
                head += data
                if len(head) >= HEAD_BYTES:
                    break
        if not head:
            raise FetchTimeout(NOTHING_YET)
        kind = sniff(head)
        if kind is Kind.HLS:
            return "hls"
        if kind is Kind.DASH:
            raise UnsupportedMedia("live DASH is not read: watch the HLS of the same stream")
        if kind is Kind.PAGE:
            raise UnsupportedMedia("a web page, not a stream: give the address of its playlist")
        return "ts" if isinstance(cutter_of(head, self._options.cut_s)(), TsCutter) else "flv"

    def _reader(self, url: str, kind: str, position: Json | None) -> LiveReader:
        options = self._options
        patience = self._patience(options.give_up_s)
        if kind == "hls":
            return HlsReader(
                Connection(self._http),
                url,
                patience=patience,
                max_behind_s=options.max_behind_s,
                max_side_px=options.max_side_px,
                max_segments=options.max_segments,
                wall=self._wall,
                position=position,
            )
        cutter = TsCutter if kind == "ts" else FlvCutter
        return ByteStreamReader(
            self._http,
            url,
            kind=kind,
            new_cutter=lambda: cutter(options.cut_s),
            patience=patience,
            max_behind_s=options.max_behind_s,
            position=position,
            wall=self._wall,
        )


def _said(position: Json | None) -> Json | None:
    """A position of one of our readers. Raises UnreadableRecord for a reader that another version may have, DamagedRecord for
    anything else."""
    if position is None:
        return None
    kind = position.get("kind") if isinstance(position, dict) else None
    if not isinstance(kind, str):
        raise DamagedRecord("the position of a watch says no kind")
    if kind not in POSITIONS:
        raise UnreadableRecord("the position of a watch is of a reader that this version does not have")
    later = [position[name] for name in LATER.get(kind, ()) if name in position]
    if not all(map(_is_number, [*map(position.get, POSITIONS[kind]), *later])):
        raise DamagedRecord("the position of a watch cannot be read")
    return position


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 2**64


class _Address:
    """A ``LiveReader`` that finds out what it reads."""

    def __init__(self, source: LiveSource, url: str, position: Json | None) -> None:
        self._source, self._url, self._position = source, url, position

    def items(self, stop: Callable[[], bool]) -> Generator[Piece | Gap | None]:
        kind = self._position["kind"] if self._position else None
        patience = self._source._patience(self._source._options.give_up_s)
        while kind is None:
            try:
                kind = self._source._kind(self._url, patience.stopping(stop))
            except Stopped:
                return
            except FetchError as exc:
                yield from patience.wait(patience.failed(exc))
        yield from self._source._reader(self._url, kind, self._position).items(stop)
