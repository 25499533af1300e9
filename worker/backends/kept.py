"""Files kept in a private folder under names that carry the hash of their bytes, so that damage is found before anything runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from worker.content import write_atomically
from worker.errors import ConfigError, ModelError
from worker.model.checkpoint import sha256
from worker.types import UInt8


def find_kept(folder: Path, prefix: str, suffix: str) -> Path | None:
    """The file ``<prefix><hash of its bytes><suffix>``, if its bytes are sound. Others of that prefix are removed."""
    for kept in sorted(folder.glob(f"{prefix}*{suffix}")):
        if kept.name == kept_name(kept, prefix, suffix):
            return kept
        with contextlib.suppress(OSError):  # removed by another process, no file, or in a folder that may not be written to
            kept.unlink()
    return None


def map_kept(folder: Path, prefix: str, suffix: str) -> tuple[Path, UInt8] | None:
    """As ``find_kept``, and the file's bytes, mapped for as long as the array is held. It counts as just used.

    Nobody writes to such a file: it is whole when it gets its name, and only removed.
    """
    if kept := find_kept(folder, prefix, suffix):
        with contextlib.suppress(OSError):  # in a folder that may not be written to
            os.utime(kept)
        with contextlib.suppress(OSError, ValueError):  # just removed by another process, or no bytes in it
            return kept, np.memmap(kept, np.uint8, mode="c")
    return None


def kept_name(path: Path, prefix: str, suffix: str) -> str:
    """The name under which these bytes are kept; of a file that another process just removed, no name of any file."""
    with contextlib.suppress(ModelError):
        return f"{prefix}{sha256(path)}{suffix}"
    return ""


def keep_bytes(folder: Path, prefix: str, suffix: str, data: bytes) -> Path:
    """Keep ``data``, whole or not at all. Raises OSError."""
    kept = folder / f"{prefix}{hashlib.sha256(data).hexdigest()}{suffix}"
    write_atomically(kept, data)
    return kept


def forget_oldest(folder: Path, suffix: str, *, most: int) -> None:
    """Remove the files of that suffix that were not used for longest, until ``most`` are left. What cannot be removed stays."""
    used: list[tuple[float, Path]] = []
    for path in folder.glob(f"*{suffix}"):
        with contextlib.suppress(OSError):  # another process may do the same
            used.append((path.stat().st_mtime, path))
    for _, path in sorted(used)[: max(0, len(used) - most)]:
        with contextlib.suppress(OSError):
            path.unlink()


def private_cache(folder: Path) -> Path:
    """Make the folder, readable and writable by its owner alone; refuse one that belongs to somebody else, or in which others may
    have put files."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.lstat()
        if hasattr(os, "geteuid") and state.st_uid != os.geteuid():
            raise ConfigError(f"the cache folder {folder} belongs to another user: set model.cache_dir")
        if folder.is_symlink():
            raise ConfigError(f"the cache folder {folder} is a link: set model.cache_dir")
        if state.st_mode & 0o022 and any(
            folder.iterdir()
        ):  # a name that carries a hash says that a file is whole, not whose it is
            raise ConfigError(f"others may write to the cache folder {folder}, and could have put files there: empty it")
        if state.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as exc:
        raise ConfigError(f"cannot use the cache folder {folder}: {exc.strerror}; set model.cache_dir") from exc
    return folder


def user_cache() -> Path:
    """``$XDG_CACHE_HOME/veriframe``, by default ``~/.cache/veriframe``; a relative value is ignored, as its standard says. Of a
    user without a home folder it is one that nobody can make, as where that may not be written to."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named / "veriframe"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path(os.devnull, "no-home-folder")
    return home / ".cache" / "veriframe"
