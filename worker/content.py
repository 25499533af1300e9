"""A file's bytes: hashed within a limit, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from worker.errors import MediaTooLarge, SourceError, UnsupportedMedia

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a file."""

    sha256: str
    size_bytes: int


def read_content(path: Path, max_bytes: int) -> Content:
    """Hash a regular file; never waits on a FIFO that took its place, nor reads more than ``max_bytes``.

    Raises SourceError (missing, unreadable), UnsupportedMedia (not a regular file) or MediaTooLarge.
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
        raise SourceError(f"cannot be read: {exc.strerror}") from exc


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that no reader ever sees half of it; readers are those of the umask's default (0644)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
