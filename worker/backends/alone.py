"""One process at a time: a lock file in a private folder, which the kernel frees when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from worker.errors import ConfigError, ModelError

LOCK_POLL_S = 0.1


@contextlib.contextmanager
def alone(lock: Path, *, timeout_s: float, doing: str) -> Iterator[None]:
    """While entered, no other process is inside for the same file.

    Raises ModelError where one stays there for too long, ConfigError where the file cannot be made or locked.
    """
    deadline = time.monotonic() + timeout_s
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise ConfigError(f"cannot use the cache folder {lock.parent}: {exc.strerror}; set model.cache_dir") from exc
    with os.fdopen(handle, "wb"):
        while not _locked(handle):
            if time.monotonic() > deadline:
                raise ModelError(f"another process has been {doing} for {timeout_s:g} s: {lock}")
            time.sleep(LOCK_POLL_S)
        yield


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        raise ConfigError(f"cannot lock a file in the cache folder: {exc.strerror}; set model.cache_dir") from exc
    return True
