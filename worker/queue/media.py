"""Scanned media that are kept for a while (``artifacts.media_keep_s``): where they lie, of which type they are.

They lie under their hash: the same bytes, posted a hundred times, are kept once, until the last of the times is over. What a
scan's owner may see of them goes by the scan.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from worker.artifacts import ArtifactStore
from worker.errors import FetchGone, StorageError
from worker.queue.requests import RequestSource
from worker.report import Media, Report

log = logging.getLogger(__name__)

UNKNOWN: Final = "application/octet-stream"
TYPES: Final = {
    "mov,mp4,m4a,3gp,3g2,mj2": ("video/mp4", ".mp4"),
    "matroska,webm": ("video/x-matroska", ".mkv"),
    "mpegts": ("video/mp2t", ".ts"),
    "mpeg": ("video/mpeg", ".mpg"),
    "avi": ("video/x-msvideo", ".avi"),
    "flv": ("video/x-flv", ".flv"),
    "ogg": ("video/ogg", ".ogv"),
    "asf": ("video/x-ms-asf", ".wmv"),
    "jpeg": ("image/jpeg", ".jpg"),
    "png": ("image/png", ".png"),
    "gif": ("image/gif", ".gif"),
    "webp": ("image/webp", ".webp"),
    "bmp": ("image/bmp", ".bmp"),
    "tiff": ("image/tiff", ".tif"),
    "avif": ("image/avif", ".avif"),
}
"""Type and suffix by the container that the probe found."""
WEBM_CODECS: Final = frozenset({"vp8", "vp9", "av1"})


def media_key(sha256: str) -> str:
    return f"media/{sha256}"


def media_type(media: Media) -> tuple[str, str]:
    """MIME type and suffix, by what the probe saw; never by what a sender or an address says."""
    if media.container == "matroska,webm" and media.codec in WEBM_CODECS:
        return "video/webm", ".webm"
    return TYPES.get(media.container, (UNKNOWN, ".bin"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaShelf:
    """Keeps what was fetched or uploaded for ``keep_s`` seconds behind the time of its scan; 0: nothing. ``clock`` gives Unix
    time, and is to be the one that the store is swept by."""

    store: ArtifactStore
    keep_s: float
    clock: Callable[[], float] = time.time

    def keep(self, source: RequestSource, path: Path, sha256: str) -> None:
        """A file below a media root is its keeper's and is not copied. A store that is full or down costs a finished scan its
        media, not its verdict."""
        if self.keep_s <= 0 or not self.store.retains or source.path is not None:
            return
        try:
            self.store.put(media_key(sha256), path, expires_at=self.clock() + self.keep_s)
        except StorageError as exc:
            log.warning("media %s are not kept (%s)", sha256[:12], exc.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """Kept media, open for reading; whoever has it closes ``file``."""

    file: BinaryIO
    sha256: str
    mime: str
    suffix: str


def open_media(store: ArtifactStore, report: Report) -> Retained:
    """The bytes that a scan looked at. Raises FetchGone where they are not retained, or not any more; StorageError."""
    media = report.media
    if report.status != "completed" or report.source.kind == "path" or media is None or media.sha256 is None:
        raise FetchGone("not retained")
    mime, suffix = media_type(media)
    return Retained(file=store.open(media_key(media.sha256)), sha256=media.sha256, mime=mime, suffix=suffix)


def is_retained(store: ArtifactStore, report: Report) -> bool:
    """Raises StorageError."""
    try:
        open_media(store, report).file.close()
    except FetchGone:
        return False
    return True
