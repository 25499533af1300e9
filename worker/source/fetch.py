"""What an address leads to, as one local file: whichever way its bytes are to be had."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from worker.errors import MediaTooLarge, UnsupportedMedia
from worker.source.http import Fetched, HttpSource, OnProgress
from worker.source.playlist import MAX_PLAYLIST_BYTES, Playlists
from worker.source.sniff import Kind, sniff_file
from worker.source.social import SocialSource


class UrlSource:
    """Fetches one address at a time: media as they are, recordings behind playlists as one file, posts' videos if ``social``."""

    def __init__(self, *, http: HttpSource, playlists: Playlists, social: SocialSource | None = None) -> None:
        self._http, self._playlists, self._social = http, playlists, social

    def fetch(self, url: str, folder: Path, on_progress: OnProgress | None = None, ticket: str = "") -> Fetched:
        """The media as a new file in ``folder``. A turn at a site is kept for ``ticket`` until a later attempt (``SiteLimiter``).

        Raises FetchError, MediaError, StorageFull.
        """
        self._http.guard.check_url(url)
        site = self._social.site_of(url) if self._social else None
        if self._social and site is not None:
            self._social.await_turn(site, ticket or uuid4().hex, self._http.timeout_s, on_progress)
        with self._http.session() as session:
            if self._social and site is not None:
                return self._social.fetch(session, site, url, folder, on_progress)
            fetched = session.download(url, folder / "download", on_progress)
            kind = sniff_file(fetched.path)
            if kind is Kind.MEDIA:
                return fetched
            if kind is Kind.PAGE:
                raise UnsupportedMedia("a web page, not media; and of no site whose pages are read (source.extractors)")
            if fetched.size_bytes > MAX_PLAYLIST_BYTES:
                raise MediaTooLarge(f"a playlist of more than {MAX_PLAYLIST_BYTES} bytes")
            data = fetched.path.read_bytes()
            fetched.path.unlink()
            return self._playlists.fetch(session, kind, data, fetched.final_url, folder / "joined", on_progress)
