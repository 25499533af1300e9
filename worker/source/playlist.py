"""A recording behind an HLS or DASH playlist as one local file: its parts fetched and joined by us, never by the demuxer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.content import disk_bytes, taking_in
from worker.errors import CorruptMedia, MediaError, MediaTooLong, UnsupportedMedia
from worker.source.client import plain_url
from worker.source.dash import read_dash
from worker.source.fragments import earliest_s
from worker.source.hls import MediaPlaylist, read_hls
from worker.source.http import Fetched, OnProgress, Session
from worker.source.part_kinds import OneKind, known
from worker.source.parts import Part, PartReader
from worker.source.runs import Runs
from worker.source.sniff import HEAD_BYTES, Kind, sniff
from worker.source.variants import by_preference

MAX_PLAYLIST_BYTES: Final = 8 << 20
_LEAD_S: Final = 1.0
"""Files whose pictures are reordered begin a few frames before what is shown of them."""
_TRIED: Final = 3
"""Renditions whose playlists are looked at before the last one is taken as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistLimits:
    """``max_side_px``: the shorter side of the rendition that is wanted, if there is a choice."""

    max_segments: int = 10_000
    max_duration_s: float = 14_400
    max_side_px: int = 720


class Playlists:
    """Fetches what playlists name. May be shared by threads."""

    def __init__(self, limits: PlaylistLimits) -> None:
        self._limits = limits

    @property
    def max_segments(self) -> int:
        return self._limits.max_segments

    def fetch(
        self, session: Session, kind: Kind, data: bytes, url: str, into: Path, on_progress: OnProgress | None = None
    ) -> Fetched:
        """The recording that the playlist ``data`` of ``url`` stands for, as the new file ``into``.

        Raises FetchError, MediaError, StorageFull; UnsupportedMedia for a live stream, which has no end.
        """
        parts = self._hls(session, data, url) if kind is Kind.HLS else self._dash(session, data, url)
        return self.join(session, parts, url, into, on_progress)

    def join(
        self, session: Session, parts: Sequence[Part], url: str, into: Path, on_progress: OnProgress | None = None
    ) -> Fetched:
        """Parts one behind the other. Raises as ``fetch`` does."""
        limits = self._limits
        if not any(not part.is_init for part in parts):
            raise UnsupportedMedia("a playlist without segments")
        if len(parts) > limits.max_segments:
            raise UnsupportedMedia(f"a playlist of more than {limits.max_segments} segments")
        duration_s = sum(part.duration_s for part in parts)
        if duration_s > limits.max_duration_s:
            raise MediaTooLong(f"{duration_s:.0f} s, limit {limits.max_duration_s:.0f}")
        if len(parts) == 1 and parts[0].range is None and parts[0].key is None:
            # a whole file, which need not fit into memory
            return _checked(session.download(parts[0].url, into, on_progress), parts[0].begins_s)
        reader, runs = PartReader(session), Runs() if sum(part.is_init for part in parts) > 1 else None
        kinds = OneKind()
        with taking_in(into, session.source.max_bytes, disk_bytes(into.parent)) as intake:
            for done, part in enumerate(parts, 1):
                data = reader.read(part)
                if len(parts) > 1:
                    kinds.check(part, data)
                else:
                    known(data)
                intake.write(runs.take(part, data) if runs else data)
                if on_progress is not None:
                    on_progress(intake.size_bytes, intake.size_bytes * len(parts) // done)
            content = intake.content()
        return Fetched(path=into, sha256=content.sha256, size_bytes=content.size_bytes, final_url=plain_url(url))

    def _hls(self, session: Session, data: bytes, url: str) -> list[Part]:
        found = read_hls(data, url, max_segments=self._limits.max_segments)
        if isinstance(found, MediaPlaylist):
            return _recording(found).parts()
        limits, max_bytes = self._limits, session.source.max_bytes
        wanted = by_preference(found, max_side_px=limits.max_side_px, max_bytes=max_bytes)[:_TRIED]
        for variant in wanted:
            body = session.read(variant.what, max_bytes=MAX_PLAYLIST_BYTES)
            media = read_hls(body.data, body.url, max_segments=limits.max_segments)
            if not isinstance(media, MediaPlaylist):
                raise UnsupportedMedia("a playlist of playlists of playlists")
            expected = variant.bytes_for(_recording(media).duration_s)
            if expected is None or expected <= max_bytes or variant is wanted[-1]:
                return media.parts()
        raise AssertionError  # read_hls gives no empty list

    def _dash(self, session: Session, data: bytes, url: str) -> list[Part]:
        limits, max_bytes = self._limits, session.source.max_bytes
        presentation = read_dash(data, url, max_segments=limits.max_segments)
        wanted = by_preference(
            presentation.variants,
            max_side_px=limits.max_side_px,
            max_bytes=max_bytes,
            duration_s=presentation.duration_s,
        )
        return list(wanted[0].what())


def _checked(fetched: Fetched, begins_s: float) -> Fetched:
    with fetched.path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    try:
        if sniff(head) is not Kind.MEDIA:
            raise CorruptMedia("a segment is a playlist or a web page")
        known(head)
        if begins_s > _LEAD_S and begins_s - earliest_s(fetched.path) > _LEAD_S:
            raise UnsupportedMedia(
                "a DASH period shows its one file from later than its beginning on: cut the file to what is shown"
            )
    except MediaError:
        fetched.path.unlink()
        raise
    return fetched


def _recording(playlist: MediaPlaylist) -> MediaPlaylist:
    if not playlist.has_ended:
        raise UnsupportedMedia("a live stream, which has no end to wait for")
    if playlist.lacks is not None:
        raise UnsupportedMedia(f"a recording that is not whole: {playlist.lacks}")
    return playlist
