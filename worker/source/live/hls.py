"""HLS that runs on: its playlist is read again and again, each new segment with its initialisation is a piece.

The clock is the sum of the segments' durations as the playlist says them: discontinuities and wrapped timestamps do not matter.
What fell out of the playlist before we came for it is a gap of as many target durations, what it lists as missing one of its own.
A stream that began anew says nothing of the time between: the gap is as long as nothing came by our clock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from typing import Final

from worker.errors import CorruptMedia, EmptyMedia, FetchError, FetchTimeout, MediaError, UnsupportedMedia
from worker.source.client import Stopped
from worker.source.fragments import rebased
from worker.source.hls import MediaPlaylist, Segment, read_hls
from worker.source.live.connection import Connection
from worker.source.live.cuts import SLACK_S
from worker.source.live.patience import Patience
from worker.source.live.pieces import LONGEST_GAP_S, Cause, Gap, Piece
from worker.source.parts import Part
from worker.source.playlist import MAX_PLAYLIST_BYTES
from worker.source.variants import by_preference
from worker.types import Json

EDGE_SEGMENTS: Final = 3
"""A stream is joined so many segments before its end (RFC 8216, 6.3.3)."""
LONGEST_RELOAD_S: Final = 10.0
_STALE_RELOADS: Final = 5
"""A playlist that is older than what was read comes from a cache; so many in a row: the stream began anew."""


class HlsReader:
    """A ``LiveReader``. ``max_behind_s``: if more than this is waiting, what is oldest is left out. ``position``: as a piece
    before said, also without ``at``, as a version before this one did. ``wall``: Unix time on the clock that whoever watches on
    goes by."""

    def __init__(
        self,
        connection: Connection,
        url: str,
        *,
        patience: Patience,
        max_behind_s: float,
        max_side_px: int,
        max_segments: int,
        wall: Callable[[], float],
        position: Json | None = None,
    ) -> None:
        self._connection, self._url, self._patience = connection, url, patience
        self._max_behind_s, self._max_side_px, self._max_segments = max_behind_s, max_side_px, max_segments
        self._media_url: str | None = None
        self._next: int | None = None if position is None else int(position["sequence"])
        self._clock_s = 0.0 if position is None else float(position["clock_s"])
        self._wall = wall
        self._heard_at = float((position or {}).get("at", wall()))
        self._init: tuple[Part, bytes] | None = None
        self._stale = 0

    def items(self, stop: Callable[[], bool]) -> Generator[Piece | Gap | None]:
        self._connection.stop = self._patience.stopping(stop)
        with closing(self._connection), suppress(Stopped):
            while True:
                try:
                    playlist = self._playlist()
                except FetchError as exc:
                    if not exc.retryable:
                        self._media_url = None  # it may have been signed for a while: the first playlist has a new one
                    yield from self._patience.wait(self._patience.failed(exc))
                    continue
                self._patience.answered()
                try:
                    yield from self._new(playlist)
                except FetchError as exc:
                    yield from self._patience.wait(self._patience.failed(exc))
                    continue
                if playlist.has_ended:
                    return
                self._patience.check()
                yield from self._patience.wait(min(max(playlist.target_s / 2, 0.2), LONGEST_RELOAD_S))

    def _playlist(self) -> MediaPlaylist:
        """Raises FetchError; a playlist that cannot be read is one, for the next may be better."""
        try:
            return self._read_playlist()
        except (CorruptMedia, EmptyMedia) as exc:
            raise FetchTimeout(f"the stream's playlist cannot be read: {exc}") from exc

    def _read_playlist(self) -> MediaPlaylist:
        session = self._connection.session()
        body = session.read(self._media_url or self._url, max_bytes=MAX_PLAYLIST_BYTES)
        found = read_hls(body.data, body.url, max_segments=self._max_segments)
        if isinstance(found, MediaPlaylist):
            return found
        if self._media_url is not None:
            raise UnsupportedMedia("a playlist of playlists of playlists")
        best = by_preference(found, max_side_px=self._max_side_px, max_bytes=session.source.max_bytes)[0]
        self._media_url = best.what
        return self._read_playlist()

    def _new(self, playlist: MediaPlaylist) -> Iterator[Piece | Gap | None]:
        yield from self._rejoined(playlist)
        new = self._unread(playlist)
        if not playlist.has_ended:
            kept = _edge(new, self._max_behind_s)
            if skipped := new[: len(new) - len(kept)]:
                yield from self._missed(playlist, skipped[0].sequence)
                yield self._gap("behind", sum(one.part.duration_s for one in skipped), skipped[-1].sequence + 1)
            new = kept
        waiting_s = sum(one.part.duration_s for one in new)
        for segment in new:
            yield from self._missed(playlist, segment.sequence)
            waiting_s -= segment.part.duration_s
            item = self._read(segment, 0.0 if playlist.has_ended else max(waiting_s, 0.0))
            yield item
            if isinstance(item, Piece):  # now, since it is not the stream's fault how long it took to look at
                self._patience.came()
        if self._next is not None and playlist.missing:
            yield from self._missed(playlist, max(playlist.missing) + 1)

    def _rejoined(self, playlist: MediaPlaylist) -> Iterator[Gap]:
        """A stream that began anew is joined again; for so long nothing came, but for what the segments there last."""
        segments = playlist.segments
        newest = max((segments[-1].sequence, *playlist.missing)) if segments else None
        is_stale = newest is not None and self._next is not None and newest < self._next - 1
        self._stale = self._stale + 1 if is_stale else 0
        if self._stale >= _STALE_RELOADS:
            joined = segments[-EDGE_SEGMENTS:]
            self._next, self._stale = joined[0].sequence, 0
            away_s = self._wall() - self._heard_at - sum(one.part.duration_s for one in joined)
            if away_s >= SLACK_S:
                yield self._gap("outage", away_s, self._next)

    def _unread(self, playlist: MediaPlaylist) -> Sequence[Segment]:
        segments = playlist.segments
        if self._next is None and segments:
            first = max(len(segments) - EDGE_SEGMENTS, 0)
            self._next = min((segments[0].sequence, *playlist.missing)) if playlist.has_ended else segments[first].sequence
        if self._next is None:
            return ()
        return [one for one in segments if one.sequence >= self._next]

    def _missed(self, playlist: MediaPlaylist, sequence: int) -> Iterator[Gap]:
        """Segments before this one that are not there, or not any more."""
        if self._next is not None and sequence > self._next:
            told = [length_s for number, length_s in playlist.missing.items() if self._next <= number < sequence]
            gone_s = (sequence - self._next - len(told)) * playlist.target_s
            yield self._gap("not_served", gone_s + sum(told), sequence)

    def _gap(self, cause: Cause, duration_s: float, following: int) -> Gap:
        gap_s = min(duration_s, LONGEST_GAP_S)
        start_s, self._clock_s, self._next = self._clock_s, self._clock_s + gap_s, following
        self._heard_at = self._wall()
        return Gap(start_s=start_s, duration_s=gap_s, cause=cause, position=self._position())

    def _read(self, segment: Segment, behind_s: float) -> Piece | Gap:
        """Raises FetchError where another try may help."""
        duration_s = min(segment.part.duration_s, LONGEST_GAP_S)
        try:
            data = self._bytes(segment)
        except FetchError as exc:
            if exc.retryable:
                raise
            return self._gap("not_served", duration_s, segment.sequence + 1)
        except MediaError:
            return self._gap("unreadable", duration_s, segment.sequence + 1)
        start_s, self._clock_s, self._next = self._clock_s, self._clock_s + duration_s, segment.sequence + 1
        self._heard_at = self._wall()
        return Piece(data=data, start_s=start_s, duration_s=duration_s, position=self._position(), behind_s=behind_s)

    def _bytes(self, segment: Segment) -> bytes:
        parts = self._connection.parts()
        if segment.init is None:
            return parts.read(segment.part)
        if self._init is None or self._init[0] != segment.init:
            self._init = (segment.init, parts.read(segment.init))
        return rebased(self._init[1], parts.read(segment.part))

    def _position(self) -> Json:
        return {"kind": "hls", "sequence": self._next, "clock_s": self._clock_s, "at": self._heard_at}


def _edge(segments: Sequence[Segment], max_behind_s: float) -> Sequence[Segment]:
    """All, or the last few where the rest is too far behind."""
    if sum(one.part.duration_s for one in segments) <= max_behind_s or len(segments) <= EDGE_SEGMENTS:
        return segments
    return segments[len(segments) - EDGE_SEGMENTS :]
