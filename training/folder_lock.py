"""Who works in a run folder: locks on files of it, which the kernel lets go when their holder ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from worker.content import NO_ROOM
from worker.errors import ConfigError

LOCK, TURN = "run.lock", "study.lock"
TAKEN = (errno.EAGAIN, errno.EACCES)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
Tell = Callable[[str], object]
_held: set[int] = set()
"""What this process forks (loaders of batches) lets go of these: it may outlive its parent's kill by seconds."""


def silent(note: str) -> None:
    """Tells nobody."""


@contextmanager
def alone_in(folder: Path, tell: Tell) -> Iterator[None]:
    """No other run begins in ``folder`` meanwhile; on a file system without locks nothing keeps it from that, as ``tell`` hears.

    A run that leaves nothing in a folder that it made leaves no folder. Raises ConfigError where another is there already, and
    where nothing can be written.
    """
    is_new = not folder.exists()
    with _opened(folder / LOCK) as handle:
        if not _take(handle, fcntl.LOCK_EX, folder, tell) or not _is_at(folder / LOCK, handle):
            raise _taken(folder)
        try:
            yield
        finally:
            if is_new and folder.is_dir() and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()


@contextmanager
def sharing(folder: Path, tell: Tell) -> Iterator[bool]:
    """As ``alone_in``, but for others that share it; gives whether there was none, False where nothing tells (no locks). To be
    entered ``in_turn``."""
    unlocked: list[str] = []
    with _opened(folder / LOCK) as handle:
        is_first = _take(handle, fcntl.LOCK_EX, folder, unlocked.append)
        if not _take(handle, fcntl.LOCK_SH, folder, tell):
            raise _taken(folder)
        yield is_first and not unlocked


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Whether nobody else had it; it is ours until the end."""
    with _opened(folder / LOCK) as handle:
        yield _take(handle, fcntl.LOCK_EX, folder, silent)


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Waits until no other process is within."""
    with _opened(folder / TURN) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as exc:
            if exc.errno not in NO_LOCKS:
                raise
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as exc:
        if exc.errno in NO_ROOM:
            raise
        raise ConfigError(f"{path.parent} cannot be written to: {exc.strerror}; name another folder by --run") from exc
    _let_go_where_forked()
    _held.add(handle)
    try:
        yield handle
    finally:
        if handle in _held:
            _held.remove(handle)
            os.close(handle)


def _take(handle: int, how: int, folder: Path, tell: Tell) -> bool:
    """False: another has it. Where there are no locks it is ours."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in TAKEN:
            return False
        if exc.errno not in NO_LOCKS:
            raise
        tell(f"{folder}: its file system has no locks ({exc.strerror}): begin no second run there")
    return True


def _is_at(path: Path, handle: int) -> bool:
    """False: whoever had it has removed the file since it was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _taken(folder: Path) -> ConfigError:
    return ConfigError(f"{folder}: another process is at work there: wait for its end, or name another folder by --run")


@cache
def _let_go_where_forked() -> None:
    def let_go() -> None:
        while _held:
            os.close(_held.pop())

    os.register_at_fork(after_in_child=let_go)
