"""Writes files whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.content import full_told


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Where to write what then takes the place of ``path``; after an error nothing is left of it. Raises StorageFull."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with full_told(path.parent):
            yield unfinished
            unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
