"""Media roots: the folders below which a path that came over the queue or the API may lie."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from worker.errors import FetchGone, FetchRefused, FetchTimeout

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_MOVED = "the file was moved while it was looked at"


def resolve_below(path: str, roots: Sequence[Path]) -> Path:
    """The regular file that ``path`` leads to, links resolved, if that lies below one of ``roots``; without roots, none does.

    What is promised: the file that was opened for this check lay below a root. It is opened again, by the path that is returned,
    to be scanned. Whoever may rename folders or make links within a root meanwhile can lead that elsewhere: those who may submit
    paths must not have write access to the roots, or only through what makes plain files.

    Raises FetchRefused for what is not below a root, whether or not it exists, and for what is no regular file or may not be
    read; FetchGone if it is not there; FetchTimeout if the disk fails.
    """
    if not roots:
        raise FetchRefused("paths are not taken: no media root is configured")
    if not os.path.isabs(path) or "\0" in path:
        raise FetchRefused("not an absolute path")
    try:
        resolved = _resolved(path)
        _check_below(resolved, roots)
        _check_opened(resolved, roots)
    except (PermissionError, UnicodeError) as exc:
        raise FetchRefused("the file may not be read") from exc
    except OSError as exc:
        if exc.errno in _ABSENT:
            raise FetchGone("there is no such file") from exc
        raise FetchTimeout(f"the file cannot be opened: {exc.strerror}") from exc
    return Path(resolved)


def _check_below(resolved: str, roots: Sequence[Path]) -> None:
    if not any(Path(resolved).is_relative_to(_resolved(str(root))) for root in roots):
        raise FetchRefused("not below a media root")


def _check_opened(resolved: str, roots: Sequence[Path]) -> None:
    """Open it without following a link or waiting for a FIFO, and see that it still is where it was found."""
    handle = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise FetchRefused("not a regular file")
        again = _resolved(resolved)
        _check_below(again, roots)
        if again != resolved or not os.path.samestat(state, os.stat(resolved)):
            raise FetchRefused(_MOVED)
    finally:
        os.close(handle)


def _resolved(path: str) -> str:
    """``path`` with its links followed; refused if a link became something else between being seen and being read (EINVAL)."""
    try:
        return os.path.realpath(path)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            raise FetchRefused(_MOVED) from exc
        raise
