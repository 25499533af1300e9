"""Writes files whole or not at all, and looks before long work whether its end can be written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.content import full_told
from worker.errors import ConfigError


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


def refuse_unwritable(path: Path, *, is_replaced: bool = True) -> None:
    """Raises ConfigError where no file can be written at ``path``, StorageFull; leaves nothing there.

    ``is_replaced``: a file that is there gives way to a new one; else it is written to itself.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: name a file")
        if path.exists() and not is_replaced:
            with path.open("ab"):
                return
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        with full_told(nearest), tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from exc
