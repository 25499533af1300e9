"""Writes an artefact's folder, whole or not at all, and finds the kept one of the same key."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from worker.backends.artefact import MANIFEST, PROBE, Manifest, StoredFile, read_artefact
from worker.content import read_content
from worker.errors import ConfigError, ModelError

MAX_FILE_BYTES = 8 << 30
SUFFIXES = frozenset({".onnx", ".xml", ".bin", ".engine", ".pt2"})
"""Of the files that makers write."""
MOST_TURNS = 20
MOVED_AWAY = re.compile(r"old-\d+")
"""What was in an artefact's place, in a scratch folder; the other thing there is called ``fresh``."""
OUR_KEYS = frozenset({"format", "kind", "checkpoint_sha256", "files"})
"""Of a manifest of any version; other programs write a ``manifest.json`` too."""


def key_of(parts: Mapping[str, Any]) -> str:
    """A short name for everything that makes one engine another."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def is_sound(folder: Path) -> bool:
    """Whether an artefact lies there whose files are those of its manifest."""
    try:
        read_artefact(folder)
    except ModelError:
        return False
    return True


def write_artefact(out: Path, fill: Callable[[Path], Manifest]) -> None:
    """Have ``fill`` write the files into a folder beside ``out``, add hashes and manifest, and put it in ``out``'s place.

    Another artefact there is replaced. Raises ConfigError where ``out`` is anything else, or cannot be written.
    """
    _refuse_others(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(out) as scratch:
            fresh = scratch / "fresh"
            fresh.mkdir(mode=0o755)
            manifest = fill(fresh)
            manifest = manifest.model_copy(update={"files": stored_files(fresh)})
            (fresh / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            _refuse_others(out)  # making them took a while
            put_in_place(fresh, out, scratch)
    except OSError as exc:
        raise ConfigError(f"cannot write {out}: {exc.strerror}") from exc


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out``, gone afterwards; those that killed exports left are removed first: they can be large. Not
    what holds anything else, nor the only artefact that there is.

    One in use is locked, by a lock that the kernel frees when its holder dies.
    """
    with contextlib.ExitStack() as held:
        with _locked(out.parent):
            for left in out.parent.glob(f".{glob.escape(out.name)}.{'[a-z0-9_]' * 8}"):
                with contextlib.suppress(OSError), _locked(left, wait=False) as is_abandoned:
                    names = {path.name for path in left.iterdir()} - {"fresh"}
                    if is_abandoned and (not names or (out.exists() and all(map(MOVED_AWAY.fullmatch, names)))):
                        shutil.rmtree(left)
            scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
            held.enter_context(_locked(scratch))
        try:
            yield scratch
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(scratch)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Whether it is: not where another has it and there is no waiting, and not where the file system locks no folders."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def put_in_place(fresh: Path, out: Path, scratch: Path) -> None:
    """Move ``fresh`` to ``out``, and what lies there into ``scratch``: also what another export puts there meanwhile.

    Raises OSError.
    """
    for turn in range(MOST_TURNS):
        with contextlib.suppress(FileNotFoundError):
            out.rename(scratch / f"old-{turn}")
        try:
            fresh.rename(out)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST) or turn == MOST_TURNS - 1:
                raise
        else:
            return


def _refuse_others(out: Path) -> None:
    if out.exists() and not _may_be_replaced(out):
        raise ConfigError(f"{out} exists and is no artefact: give --out another folder")


def _may_be_replaced(out: Path) -> bool:
    """An empty folder, or an artefact: its manifest and what that lists, nothing else.

    Where the manifest is damaged: the probe, and files such as makers write.
    """
    try:
        found = {path.name: path.is_file() for path in out.iterdir()}
        if not found:
            return True
        if not found.get(MANIFEST) or not all(found.values()):
            return False
        told = json.loads((out / MANIFEST).read_bytes())
    except (OSError, RecursionError):  # no folder, or none of ours
        return False
    except ValueError:
        return PROBE in found and all(name in (MANIFEST, PROBE) or Path(name).suffix in SUFFIXES for name in found)
    ours = isinstance(told, dict) and told.keys() >= OUR_KEYS and isinstance(told["files"], dict)
    return ours and found.keys() <= {MANIFEST, *told["files"]}


def stored_files(folder: Path) -> dict[str, StoredFile]:
    """Hash and size of each file in a folder, by name."""
    contents = {path.name: read_content(path, MAX_FILE_BYTES) for path in sorted(folder.iterdir())}
    return {name: StoredFile(sha256=found.sha256, size_bytes=found.size_bytes) for name, found in contents.items()}
