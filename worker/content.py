"""A file's bytes: hashed within a limit, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from worker.errors import MediaTooLarge, SourceError, StorageFull, UnsupportedMedia
from worker.exhausted import exhausted

_CHUNK = 1 << 18
_NEXT_TO_ALL = 0.9
"""Where one file has this share of a disk that is full, nothing of note lies beside it: a worker's own files do."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a file."""

    sha256: str
    size_bytes: int


def read_content(path: Path, max_bytes: int) -> Content:
    """Hash a regular file; never waits on a FIFO that took its place, nor reads more than ``max_bytes``.

    Raises SourceError (missing, unreadable), UnsupportedMedia (not a regular file) or MediaTooLarge; an ``exhausted`` machine's
    OSError as it is, which says nothing of the file.
    """
    digest = hashlib.sha256()
    chunk = memoryview(bytearray(_CHUNK))
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise UnsupportedMedia("not a regular file")
            size = state.st_size
            while size <= max_bytes:
                count = file.readinto(chunk)
                if not count:
                    break
                digest.update(chunk[:count])
                size = max(size, file.tell())  # it may grow while it is read
            if size > max_bytes:
                raise MediaTooLarge(f"{size} bytes, limit {max_bytes}")
            return Content(sha256=digest.hexdigest(), size_bytes=file.tell())
    except OSError as exc:
        if exhausted(exc):
            raise
        raise SourceError(f"cannot be read: {exc.strerror}") from exc


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that no reader ever sees half of it; who may read it is the umask's to say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise


class Intake:
    """Writes to an unbuffered file what comes in, hashes it and stops at ``max_bytes``.

    Unbuffered: nothing is left to be written, and to fail, when the file is closed. ``disk_bytes``: as of the function.
    """

    def __init__(self, file: FileIO, max_bytes: int | None = None, disk_bytes: int | None = None) -> None:
        self._file, self._max_bytes, self._disk_bytes = file, max_bytes, disk_bytes
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Raises MediaTooLarge before the byte too many is written, StorageFull where there is no room."""
        self.size_bytes += len(chunk)
        self.expect(self.size_bytes)
        self._digest.update(chunk)
        rest = memoryview(chunk)
        try:
            with full_told():
                while rest:
                    rest = rest[self._file.write(rest) :]
        except StorageFull as exc:
            taken_bytes = self.size_bytes - len(rest)
            if self._disk_bytes is not None and taken_bytes > _NEXT_TO_ALL * self._disk_bytes:
                raise MediaTooLarge(f"more than the disk could hold: it was full after {taken_bytes} bytes of this") from exc
            raise

    def expect(self, size_bytes: int) -> None:
        """Raises MediaTooLarge where so many bytes in all are too many."""
        if self._max_bytes is not None and size_bytes > self._max_bytes:
            raise MediaTooLarge(f"more than {self._max_bytes} bytes")
        if self._disk_bytes is not None and size_bytes > self._disk_bytes:
            raise MediaTooLarge(f"more than the disk could hold: {self._disk_bytes} bytes if nothing else lay on it")

    def restart(self) -> None:
        """Forget what came in: the bytes come anew from their beginning."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def content(self) -> Content:
        """What came in until now."""
        return Content(sha256=self._digest.hexdigest(), size_bytes=self.size_bytes)


@contextlib.contextmanager
def taking_in(path: Path, max_bytes: int | None = None, disk_bytes: int | None = None) -> Iterator[Intake]:
    """A new file of this user's only, whole at the end of the context; after an error in it there is none.

    Raises FileExistsError if there is anything at ``path``, and what ``Intake`` raises.
    """
    with full_told():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with FileIO(handle, "wb") as file:
            yield Intake(file, max_bytes, disk_bytes)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        raise


def disk_bytes(folder: Path) -> int | None:
    """The most that the disk of ``folder`` could hold in one file, if nothing else lay on it: a hundredth goes to what is kept of
    a file beside its bytes. None: it does not say. Whatever is larger finds no room however long it waits."""
    state = os.statvfs(folder)
    roots = state.f_bfree - state.f_bavail if state.f_bavail else 0  # btrfs says 0 for a while, however much is free
    return (state.f_blocks - roots) * state.f_frsize * 99 // 100 if state.f_blocks else None


@contextlib.contextmanager
def full_told(folder: Path | None = None) -> Iterator[None]:
    """A full disk, a quota or a file-size limit as StorageFull, which names the folder; other errors as they are."""
    try:
        yield
    except OSError as exc:
        if exc.errno in NO_ROOM:
            raise StorageFull(f"no room {f'in {folder}' if folder else 'for the bytes'}: {exc.strerror}") from exc
        raise
