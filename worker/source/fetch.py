"""What an address leads to, as one local file: whichever way its bytes are to be had."""

from __future__ import annotations

from pathlib import Path

from worker.errors import UnsupportedMedia
from worker.source.http import Fetched, HttpSource, OnProgress
from worker.source.sniff import Kind, sniff_file


class UrlSource:
    """Fetches one address at a time."""

    def __init__(self, *, http: HttpSource) -> None:
        self._http = http

    def fetch(self, url: str, folder: Path, on_progress: OnProgress | None = None) -> Fetched:
        """The media as a new file in ``folder``. Raises FetchError, MediaError, StorageFull."""
        fetched = self._http.fetch(url, folder / "download", on_progress)
        kind = sniff_file(fetched.path)
        if kind is Kind.PAGE:
            raise UnsupportedMedia("a web page, not media; and of no site whose pages are read (source.extractors)")
        return fetched
