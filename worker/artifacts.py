"""Bytes that outlive a process: uploads, evidence crops, full frame lists; each until it expires, none without an expiry.

An object lies at ``KEY/@SECONDS``: its expiry (Unix time) is in its name, so that it outlives restarts and a sweep reads names
alone. A key that is put again is replaced and lives at least as long as it would have; readers see the old object or the new one,
whole. What has expired is gone for readers at once, and from the store at the next sweep, which lists all names: for buckets of
millions, a lifecycle rule of the store's own is the better broom.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from urllib.parse import unquote, urlsplit

from worker.blobs import PARTIAL, Blobs, FolderBlobs, FsspecBlobs
from worker.content import Content, disk_bytes, taking_in
from worker.errors import ConfigError, FetchGone, StorageDown, StorageError

_CHUNK: Final = 1 << 20
_NAME: Final = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
_KEY = re.compile(rf"{_NAME}(/{_NAME}){{0,7}}")
_OBJECT = re.compile(r"(?P<key>.+)/@(?P<expires>\d{1,12})")
_UNFINISHED = re.compile(rf"{re.escape(PARTIAL)}/(?P<begun>\d{{1,12}})-.+")
_ABANDONED_S: Final = 86400
"""A write that began so long ago has no writer any more."""


class Writing(Protocol):
    """An object in the making."""

    def write(self, chunk: bytes) -> None:
        """Raises MediaTooLarge, StorageFull, StorageDown."""
        ...

    def content(self) -> Content:
        """SHA-256 and size of what was written."""
        ...


class ArtifactStore(Protocol):
    """Keys are one to eight names of letters, digits, ``.``, ``_`` and ``-``, with ``/`` between; others raise ValueError.

    Every method raises StorageFull where there is no room and StorageDown where the store does not answer or refuses.
    """

    @property
    def retains(self) -> bool:
        """False: nothing is kept, and what is put is dropped."""
        ...

    def put(self, key: str, data: bytes | Path, *, expires_at: float) -> Content | None:
        """Keep bytes, or those of a file; None: not retained (no store, or ``expires_at`` is past)."""
        ...

    def writer(self, key: str, *, expires_at: float, max_bytes: int | None = None) -> AbstractContextManager[Writing]:
        """For bytes that come piece by piece: kept when the context ends, dropped if an error ends it.

        Raises ConfigError where nothing is retained: who uploads wants to find it again.
        """
        ...

    def open(self, key: str) -> BinaryIO:
        """Raises FetchGone for what has expired, was deleted or was never retained. The caller closes it."""
        ...

    def get(self, key: str, into: Path) -> Content:
        """Copy to a new file that only this user can read. Raises FetchGone like ``open``; FileExistsError; MediaTooLarge, where
        that is more than its disk could hold."""
        ...

    def names(self, below: str) -> frozenset[str]:
        """Of what is retained: the last names of keys right below this one."""
        ...

    def delete(self, key: str) -> None:
        """It may be gone already."""
        ...

    def sweep(self, now: float | None = None) -> int:
        """Delete what has expired, and what dead writers left a day ago; returns how many. What cannot be deleted is told at the
        end, and keeps none of the others."""
        ...


def open_store(url: str | None, *, clock: Callable[[], float] = time.time) -> ArtifactStore:
    """The store at a folder or an fsspec URL; ``clock`` gives Unix time. Raises ConfigError for one that cannot be used."""
    if url is None or not url.strip():
        return NoStore()
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme in ("", "file"):
        folder = Path(unquote(urlsplit(url).path) if scheme else url)
        try:
            folder = folder.expanduser()
        except RuntimeError as exc:
            raise ConfigError(f"artifacts.url: {folder}: there is no such home folder") from exc
        if not folder.is_absolute():
            raise ConfigError("artifacts.url: give an absolute folder, or an fsspec URL such as s3://bucket/prefix")
        return ExpiringStore(FolderBlobs(folder), clock=clock)
    return ExpiringStore(FsspecBlobs(url), clock=clock)


class NoStore:
    """Keeps nothing: the default."""

    retains = False

    def put(self, key: str, data: bytes | Path, *, expires_at: float) -> Content | None:
        _check(key)
        return None

    def writer(self, key: str, *, expires_at: float, max_bytes: int | None = None) -> AbstractContextManager[Writing]:
        raise ConfigError("uploads need a place: set artifacts.url to a folder or an fsspec URL")

    def open(self, key: str) -> BinaryIO:
        _check(key)
        raise _gone()

    def get(self, key: str, into: Path) -> Content:
        _check(key)
        raise _gone()

    def names(self, below: str) -> frozenset[str]:
        _check(below)
        return frozenset()

    def delete(self, key: str) -> None:
        _check(key)

    def sweep(self, now: float | None = None) -> int:
        return 0


class ExpiringStore:
    """Keys and expiry over named bytes."""

    retains = True

    def __init__(self, blobs: Blobs, *, clock: Callable[[], float] = time.time) -> None:
        self._blobs, self._clock = blobs, clock

    def put(self, key: str, data: bytes | Path, *, expires_at: float) -> Content | None:
        _check(key)
        if expires_at <= self._clock():
            return None
        with self.writer(key, expires_at=expires_at) as writing:
            if isinstance(data, bytes):
                writing.write(data)
            else:
                with open(data, "rb") as file:
                    _copy(file, writing)
        return writing.content()

    @contextlib.contextmanager
    def writer(self, key: str, *, expires_at: float, max_bytes: int | None = None) -> Iterator[Writing]:
        _check(key)
        if not math.isfinite(expires_at):
            raise ValueError("expires_at must be a time")
        expires = max([math.ceil(expires_at), *self._expiries(key)])
        with self._blobs.writing(_object(key, expires), max_bytes) as writing:
            yield writing
        for older in self._expiries(key):
            # Never a later one: of two writers at a time, the one whose object lives longer removes the other's.
            if older < expires:
                self._blobs.remove(_object(key, older))

    def open(self, key: str) -> BinaryIO:
        file, _ = self._open(key)
        return file

    def get(self, key: str, into: Path) -> Content:
        gone = 0
        while True:
            file, expires = self._open(key, gone)
            try:
                with file, taking_in(into, disk_bytes=disk_bytes(into.parent)) as intake:
                    _copy(file, intake)
                    return intake.content()
            except FetchGone:
                gone = expires

    def _open(self, key: str, gone: int = 0) -> tuple[BinaryIO, int]:
        """The object and its expiry. ``gone``: that of one that went just now; put again, it lies there with a later one."""
        _check(key)
        while (expires := max(self._expiries(key), default=0)) > max(self._clock(), gone):
            try:
                return self._blobs.open(_object(key, expires)), expires
            except FileNotFoundError:
                gone = expires
        raise _gone()

    def names(self, below: str) -> frozenset[str]:
        _check(below)
        found = [match for name in self._blobs.names(below) if (match := _OBJECT.fullmatch(name))]
        keys = [match["key"].rpartition("/") for match in found if int(match["expires"]) > self._clock()]
        return frozenset(name for folder, _, name in keys if folder == below)

    def delete(self, key: str) -> None:
        _check(key)
        for expires in self._expiries(key):
            self._blobs.remove(_object(key, expires))

    def sweep(self, now: float | None = None) -> int:
        now = self._clock() if now is None else now
        swept, held, why = 0, 0, None
        for name in self._blobs.names():
            made = _OBJECT.fullmatch(name)
            begun = _UNFINISHED.fullmatch(name)
            if (made and int(made["expires"]) <= now) or (begun and int(begun["begun"]) + _ABANDONED_S <= now):
                try:
                    self._blobs.remove(name)
                    swept += 1
                except StorageError as exc:  # the others are not to stay for this one's sake
                    held, why = held + 1, why or exc
        if why is not None:
            raise StorageDown(f"{held} of what has expired could not be deleted, {swept} were: {why}") from why
        return swept

    def _expiries(self, key: str) -> list[int]:
        found = (_OBJECT.fullmatch(name) for name in self._blobs.names(key))
        return [int(match["expires"]) for match in found if match and match["key"] == key]


def _object(key: str, expires: int) -> str:
    return f"{key}/@{expires}"


def _copy(file: BinaryIO, writing: Writing) -> None:
    while chunk := file.read(_CHUNK):
        writing.write(chunk)


def _check(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a key of an artefact: {key[:200]!r}")


def _gone() -> FetchGone:
    return FetchGone("not retained, or not any more")
