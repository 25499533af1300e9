"""The processes of a drill: supervisors, which are under test, and the servers beside them, which are not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.ledger import RunFolder
from worker.queue.assemble import told_settings
from worker.settings import Settings

REPOSITORY = Path(__file__).parents[2]
SUPERVISORS = 2
METRICS = re.compile(r"metrics at http://127\.0\.0\.1:(\d+)")


@dataclass(slots=True, kw_only=True)
class Crew:
    """The supervisors, started again when one was killed, as an init system would. From one thread: they end with it."""

    folder: RunFolder
    settings: Settings
    workers: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0
    numbers: dict[int, int] = field(default_factory=dict)
    """Of their logs, by process id."""

    def keep(self) -> None:
        self.processes = [process for process in self.processes if process.poll() is None]
        while len(self.processes) < SUPERVISORS:
            self._start()

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def ports(self) -> list[int]:
        """Where those that run show their metrics, as far as they have said so."""
        logs = [self.folder.logs / f"supervisor-{self.numbers[pid]}.log" for pid in self.pids()]
        return [int(found[1]) for log in logs if (found := METRICS.search(log.read_text()))]

    def _start(self) -> None:
        self.started += 1
        environment = {**os.environ, "TMPDIR": str(self.folder.temp), "OMP_NUM_THREADS": "1"}
        with (self.folder.logs / f"supervisor-{self.started}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos", "supervise"],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        order = {"settings": told_settings(self.settings), "workers": self.workers, "driver": os.getpid()}
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(json.dumps(order).encode() + b"\n")
        self.processes.append(process)
        self.numbers[process.pid] = self.started

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(60)


@contextlib.contextmanager
def beside(*arguments: str, order: dict[str, Any] | None = None) -> Iterator[int]:
    """A server of the drill's, which is not under test; yields its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", *arguments], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        if order is not None:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        yield int(process.stdout.readline())
