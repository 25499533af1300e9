"""A chaos run's folder: what each process of the drill writes down there, for the auditor to compare. Imports nothing of ours.

``submissions.jsonl`` is the submitter's, ``received.jsonl`` the receiver's, ``ends.jsonl`` the watcher's (each scan's end as it
was first seen), ``faults.jsonl`` the driver's. Every line is written whole and at once: a killed writer leaves no half line.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where things lie below ``root``. ``temp`` is the TMPDIR of every process under test: its path marks them as ours."""

    root: Path

    @property
    def temp(self) -> Path:
        return self.root / "temp"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def media(self) -> Path:
        return self.root / "media"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def facts(self) -> Path:
        """``run.json``: redis (URL), namespace, shm_before (names in /dev/shm)."""
        return self.root / "run.json"

    @property
    def submissions(self) -> Path:
        return self.root / "submissions.jsonl"

    @property
    def received(self) -> Path:
        return self.root / "received.jsonl"

    @property
    def ends(self) -> Path:
        return self.root / "ends.jsonl"

    @property
    def faults(self) -> Path:
        return self.root / "faults.jsonl"

    def make(self) -> None:
        for folder in (self.temp, self.scratch, self.media, self.logs):
            folder.mkdir(parents=True)
        for file in (self.submissions, self.received, self.ends, self.faults):
            file.touch()


@dataclass(slots=True)
class Ledger:
    """A file of JSON lines that only grows."""

    path: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        with self._lock:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, data)
            finally:
                os.close(handle)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
