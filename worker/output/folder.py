"""Reports in a folder: for each item a folder of its own with ``report.json``, its pictures, its page and ``state.json``.

The item's folder is named by the file's name, made safe, and 16 hex digits of the SHA-256 of its absolute path: names never
collide, and hold nothing that a shell or another file system minds. Every file appears whole or not at all; ``state.json`` comes
last.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from worker.content import NO_ROOM, Content, write_atomically
from worker.errors import ConfigError, StorageDown, StorageFull
from worker.output.jsonl import json_line
from worker.report import Report
from worker.resume import State, is_lasting

REPORT = "report.json"
STATE = "state.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_LENGTH = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A report that an earlier run left, and what it was made from."""

    report: Report
    state: State


class Pages(Protocol):
    """Makes pages of what is kept (``worker.pages.folder.FolderPages``). It raises nothing: reports do without them."""

    def add(self, place: Path, report: Report, pictures: Mapping[str, bytes]) -> None: ...

    def close(self) -> None: ...


class ReportFolder:
    """The folder of ``--out``; made if it is missing. Raises ConfigError where that is impossible."""

    def __init__(self, root: Path, pages: Pages | None = None) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"--out {root}: {exc.strerror or exc}") from exc
        if not os.access(root, os.W_OK | os.X_OK):
            raise ConfigError(f"--out {root}: not writable")
        self.root = root
        self._pages = pages

    def place(self, path: Path) -> Path:
        """The folder of one item."""
        safe = _UNSAFE.sub("_", path.name).strip("._-")[:_NAME_LENGTH]
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return self.root / (f"{safe}-{digest}" if safe else digest)

    def save(self, path: Path, report: Report, crops: Mapping[str, bytes], content: Content | None, fingerprint: str) -> None:
        """Write an item's report, pictures and page over those of an earlier run. Raises StorageError."""
        try:
            self._save(path, report, crops, content, fingerprint)
        except OSError as exc:
            kind = StorageFull if exc.errno in NO_ROOM else StorageDown
            what = f"{self.place(path).name}: {exc.strerror or exc}"
            raise kind(f"--out {self.root}: {what}; mend that and run again (scan: with --resume)") from exc

    def _save(self, path: Path, report: Report, crops: Mapping[str, bytes], content: Content | None, fingerprint: str) -> None:
        place = self.place(path)
        place.mkdir(exist_ok=True)
        (place / STATE).unlink(missing_ok=True)
        for name, jpeg in crops.items():
            if Path(name).name != name or not name.endswith(".jpg"):
                raise ValueError(f"crop name {name!r}")
            write_atomically(place / name, jpeg)
        data = json_line(report).encode("ascii")
        write_atomically(place / REPORT, data)
        for left in place.glob("*.jpg"):
            if left.name not in crops:
                left.unlink(missing_ok=True)  # another run over the same folder may have been first
        if self._pages is not None:
            self._pages.add(place, report, crops)
        if content is not None and content.sha256 == report.sha256 and is_lasting(report):
            state = State(
                sha256=content.sha256,
                size_bytes=content.size_bytes,
                fingerprint=fingerprint,
                report_sha256=hashlib.sha256(data).hexdigest(),
            )
            write_atomically(place / STATE, state.model_dump_json().encode())

    def load(self, path: Path) -> Stored | None:
        """What an earlier run left of an item; None if that is nothing, not whole, or not ours."""
        place = self.place(path)
        try:
            state = State.model_validate_json((place / STATE).read_bytes())
            data = (place / REPORT).read_bytes()
            if hashlib.sha256(data).hexdigest() != state.report_sha256:
                return None
            report = Report.model_validate_json(data)
        except (OSError, ValidationError):
            return None
        evidence = [one for track in report.tracks for one in track.evidence]
        pictures = {name for one in evidence for name in (one.crop, one.explanation, one.frame)}
        if not all((place / name).is_file() for name in pictures if name is not None):
            return None
        return Stored(report=report, state=state)

    def close(self) -> None:
        """Write the index of the pages."""
        if self._pages is not None:
            self._pages.close()
