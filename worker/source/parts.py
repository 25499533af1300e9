"""The parts that a playlist names, fetched one by one: segments, initialisations and keys, of recordings and of live streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.errors import CorruptMedia, FetchRefused
from worker.source.aes import BLOCK, decrypt_cbc
from worker.source.fragments import has_box, holds_samples
from worker.source.http import ByteRange, Session
from worker.source.sniff import Kind, sniff

MAX_PART_BYTES: Final = 64 << 20
"""A part is held in memory."""
MAX_INIT_BYTES: Final = 4 << 20
"""An initialisation goes before every segment of a live stream, and is read again and again."""
_KEYS_HELD: Final = 64
PARTS: Final = "parts"
"""Under this name a post's format holds what gives its parts when it is chosen, where our own reader has read its manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """AES-128-CBC over the whole part."""

    url: str
    iv: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes that are joined to others. ``is_init``: an initialisation, of no duration. ``begins_s``: of a whole file, from when
    on it is shown, on its own clock."""

    url: str
    range: ByteRange | None = None
    key: Key | None = None
    duration_s: float = 0.0
    is_init: bool = False
    begins_s: float = 0.0


class PartReader:
    """Fetches parts within one session; every address in them passes the guard. For one thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._keys: dict[str, bytes] = {}

    def read(self, part: Part) -> bytes:
        """The part's bytes, decrypted. Raises FetchError, MediaTooLarge, EmptyMedia, CorruptMedia."""
        most = MAX_INIT_BYTES if part.is_init else MAX_PART_BYTES
        data = self._session.read(part.url, max_bytes=most, part=part.range).data
        if part.key is not None:
            try:
                data = decrypt_cbc(data, self._key(part.key.url), part.key.iv)
            except ValueError as exc:
                raise CorruptMedia(f"a segment does not decrypt: {exc}") from exc
        if sniff(data) is not Kind.MEDIA:
            raise CorruptMedia("a segment is a playlist or a web page")
        if part.is_init and (holds_samples(data) or has_box(data, b"moof") or has_box(data, b"mdat")):
            raise CorruptMedia("an initialisation is a recording by itself: have the stream packaged anew")
        return data

    def _key(self, url: str) -> bytes:
        if url not in self._keys:
            key = self._session.read(url, max_bytes=4096).data
            if len(key) != BLOCK:
                raise FetchRefused("the server's key is none")
            if len(self._keys) >= _KEYS_HELD:
                self._keys.clear()
            self._keys[url] = key
        return self._keys[url]
