"""Folders for downloads that nobody leaves behind: one is locked while its process lives, and swept by others afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from worker.content import NO_ROOM
from worker.errors import ConfigError, StorageFull

log = logging.getLogger(__name__)

PREFIX = "veriframe-scratch-"


@contextlib.contextmanager
def claim_folder(parent: Path | None = None) -> Iterator[Path]:
    """A private folder below ``parent`` (the system's temporary folder), gone afterwards. A killed owner's goes at the next
    ``sweep``: the lock on it ends with the process. Raises ConfigError, StorageFull."""
    folder, handle = _locked_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _locked_folder(parent: Path | None) -> tuple[Path, int]:
    """A sweep may come between making a folder and locking it: then another is made."""
    place = _place(parent)
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as exc:
            kind = StorageFull if exc.errno in NO_ROOM else ConfigError
            raise kind(f"source.temp_dir: no folder can be made in {place}: {exc.strerror}") from exc
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.exists():
            return folder, handle
        os.close(handle)


def sweep(parent: Path | None = None) -> list[Path]:
    """Remove the folders of processes that are gone; returns those that are gone now. Where something in one cannot be
    removed, the rest of it is, and the log says so. Folders of other users are left alone.
    Raises ConfigError where the system has no temporary folder."""
    swept: list[Path] = []
    for folder in _place(parent).glob(f"{PREFIX}*"):
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                log.warning("cannot remove all that a process that is gone has left: %s", folder)
            else:
                swept.append(folder)
        finally:
            os.close(handle)
    return swept


def _place(parent: Path | None) -> Path:
    """The system looks for a folder of its own that can be written to, and may find none."""
    try:
        return parent or Path(tempfile.gettempdir())
    except FileNotFoundError as exc:
        raise ConfigError(f"source.temp_dir: {exc.strerror}") from exc
