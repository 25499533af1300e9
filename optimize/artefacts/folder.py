"""Writes an artefact's folder, whole or not at all, and finds the kept one of the same key."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker.backends.artefact import MANIFEST, PROBE, Manifest, StoredFile, read_artefact
from worker.content import read_content
from worker.errors import ConfigError, ModelError

MAX_FILE_BYTES = 8 << 30
SUFFIXES = frozenset({".onnx", ".xml", ".bin", ".engine", ".pt2"})
"""Of the files that makers write."""


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
    if out.exists() and not _may_be_replaced(out):
        raise ConfigError(f"{out} exists and is no artefact: give --out another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        try:
            fresh = scratch / "fresh"
            fresh.mkdir(mode=0o755)
            manifest = fill(fresh)
            manifest = manifest.model_copy(update={"files": stored_files(fresh)})
            (fresh / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            if out.exists():
                out.rename(scratch / "old")
            fresh.rename(out)
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(scratch)
    except OSError as exc:
        raise ConfigError(f"cannot write {out}: {exc.strerror}") from exc


def _may_be_replaced(out: Path) -> bool:
    """An empty folder, or one with a manifest, whole or damaged, and nothing besides that no export writes."""
    if not out.is_dir():
        return False
    found = list(out.iterdir())
    ours = all(path.is_file() and (path.name in (MANIFEST, PROBE) or path.suffix in SUFFIXES) for path in found)
    return not found or (ours and (out / MANIFEST).is_file())


def stored_files(folder: Path) -> dict[str, StoredFile]:
    """Hash and size of each file in a folder, by name."""
    contents = {path.name: read_content(path, MAX_FILE_BYTES) for path in sorted(folder.iterdir())}
    return {name: StoredFile(sha256=found.sha256, size_bytes=found.size_bytes) for name, found in contents.items()}
