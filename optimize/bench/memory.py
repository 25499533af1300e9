"""Peak memory of a tree of processes, as the sum of their proportional set sizes (PSS): shared pages are counted once."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

PERIOD_S = 0.25


def pss_bytes(pid: int) -> int:
    """PSS of one process, 0 once it is gone. Where the system hides it, the resident set size, which is never smaller."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return 0
    except (FileNotFoundError, ProcessLookupError):
        return 0 if psutil.LINUX else _rss_bytes(pid)
    except PermissionError:
        return _rss_bytes(pid)


def _rss_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def tree_pss_bytes(pid: int) -> int:
    """PSS of a process and all that descend from it; 0 once it is gone."""
    try:
        pids = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0
    return sum(pss_bytes(each) for each in pids)


class PeakMemory:
    """A context manager that looks at the tree of ``pid`` four times a second; ``peak_bytes`` is the largest sum seen."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"memory of {pid}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, tree_pss_bytes(self._pid))
            if self._stop.wait(PERIOD_S):
                return
