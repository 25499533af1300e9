"""Writes files whole or not at all, and tells a full disk as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.content import NO_ROOM
from worker.errors import StorageFull


@contextmanager
def room_told(folder: Path) -> Iterator[None]:
    """No room for what is written below ``folder`` as StorageFull that names it; other errors as they are."""
    try:
        yield
    except OSError as exc:
        if exc.errno in NO_ROOM:
            raise StorageFull(f"no room in {folder}: {exc.strerror}") from exc
        raise


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Where to write what then takes the place of ``path``; after an error nothing is left of it. Raises StorageFull."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with room_told(path.parent):
            yield unfinished
            unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
