"""A place for each process's files of metrics, taken again when its process is gone: there are never more than processes at once.

Process ids would do for a while; but scanning processes are replaced all day, and each would leave files that every answer to
Prometheus has to read. Who has a place holds a lock, which ends with the process however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

LOCK = ".lock"
ROOM_BYTES = 1 << 17
"""Of one file. It is written through memory: a disk that is full would kill the process there, so room is made before."""


def take_place(folder: Path) -> str:
    """The name of a place that is this process's until it ends. Raises OSError."""
    for number in count():
        if _lock(folder / f"{number}{LOCK}") is not None:  # never closed: it ends with the process
            return str(number)
    raise AssertionError("there are always more numbers")


def make_room(folder: Path, place: str, kinds: tuple[str, ...]) -> None:
    """A file of the place for each kind, where there is none. Raises OSError: the disk is full."""
    for kind in kinds:
        _make_room(folder / f"{kind}_{place}.db")


@contextlib.contextmanager
def left_places(folder: Path) -> Iterator[list[str]]:
    """Those whose process is gone; nobody takes one meanwhile."""
    locks = {path.name.removesuffix(LOCK): _lock(path) for path in folder.glob(f"*{LOCK}")}
    try:
        yield [name for name, lock in locks.items() if lock is not None]
    finally:
        for lock in locks.values():
            if lock is not None:
                os.close(lock)


def _lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _make_room(path: Path) -> None:
    """It appears in its full size: nobody reads one that is half made."""
    if path.exists():
        return
    fresh = path.with_suffix(".new")
    handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, ROOM_BYTES)
        else:
            os.truncate(handle, ROOM_BYTES)
    finally:
        os.close(handle)
    fresh.rename(path)
