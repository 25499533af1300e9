"""Keeps worker processes running: starts them, starts them again when they are killed, and ends them gracefully."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.patience import Patience
from worker.queue.spawn import ending, spawn
from worker.telemetry.catalogue import CHILD_RESTARTS
from worker.telemetry.port import SILENT, Telemetry

log = logging.getLogger(__name__)

LOOK_S = 0.2
CALM_S = 60.0
"""A process that ran so long before it ended is started again at once, and so is one that had done scans: something killed it."""
SLOWEST_S = 30.0
USAGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """``module`` is run with a descriptor for its beats and our pid; ``order`` is its first line of standard input."""

    name: str
    module: str
    order: Mapping[str, Any] = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Kept:
    """One process and what is known of it. Times are of the monotonic clock."""

    program: Program
    patience: Patience
    """With its silence."""
    process: subprocess.Popen[bytes] | None = None
    beats: int = -1
    buffer: bytes = b""
    started_s: float = 0.0
    start_at_s: float = 0.0
    failures: int = 0
    was_ready: bool = False
    is_hung: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """``run`` until ``stop``; ``is_live`` and ``is_ready`` may be asked from another thread."""

    programs: Sequence[Program]
    grace_s: float
    silent_s: float
    """A process that has not given a beat for so long counts as hung, and is killed and started again. Time for which this one
    was itself stopped counts for next to nothing: the beats of then are still to be read."""
    telemetry: Telemetry = SILENT
    clock: Callable[[], float] = time.monotonic
    _kept: list[Kept] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _code: int = 0
    _looked_s: float = 0.0

    def stop(self) -> None:
        self._stop.set()

    def is_live(self) -> bool:
        """Every process runs, or is about to, and has lately said so to ``run``, which still looks."""
        looks = bool(self._kept) and self.clock() - self._looked_s <= self.silent_s
        return looks and not any(kept.process is not None and kept.patience.left_s < 0 for kept in self._kept)

    def is_ready(self) -> bool:
        """Some process has its model warm."""
        return any(kept.process is not None and kept.facts.get("ready") for kept in self._kept)

    def run(self) -> int:
        """The exit code: 0 after a graceful end, 2 where a process says that its settings cannot be used."""
        self._looked_s = self.clock()
        self._kept = [Kept(program=program, patience=self._anew()) for program in self.programs]
        try:
            while not self._stop.is_set():
                for kept in self._kept:
                    self._keep(kept)
                self._listen()
        finally:
            self._end()
        return self._code

    def _keep(self, kept: Kept) -> None:
        now = self.clock()
        if kept.process is None:
            if now >= kept.start_at_s:
                self._start(kept)
            return
        code = kept.process.poll()
        if code is None:
            if kept.patience.spend() < 0:
                log.error("%s has not been heard of for %.0f s and is killed", kept.program.name, self.silent_s)
                kept.is_hung = True
                self._send(kept, signal.SIGKILL)
            return
        is_sound = now - kept.started_s > CALM_S or kept.facts.get("scans", 0) > 0
        kept.failures = 0 if is_sound else kept.failures + 1
        wait_s = back_off_s(kept.failures)
        log.warning("%s ended (%s), started again in %.1f s", kept.program.name, ending(code), wait_s)
        self.telemetry.count(CHILD_RESTARTS, "hung" if kept.is_hung else "died")
        self._forget(kept)
        kept.start_at_s = now + wait_s
        if code == USAGE and not kept.was_ready:
            self._code = USAGE
            self._stop.set()

    def _anew(self) -> Patience:
        return Patience(self.silent_s, clock=self.clock)

    def _start(self, kept: Kept) -> None:
        """A machine without room for another process is a failed start like any other."""
        kept.patience = self._anew()
        try:
            kept.process, kept.beats = spawn(kept.program.module)
        except OSError as exc:
            kept.failures += 1
            kept.start_at_s = self.clock() + back_off_s(kept.failures)
            log.error("%s cannot be started: %s", kept.program.name, exc)
            return
        os.set_blocking(kept.beats, False)
        kept.buffer, kept.facts, kept.is_hung, kept.started_s = b"", {}, False, self.clock()
        if kept.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                kept.process.stdin.write(json.dumps(dict(kept.program.order)).encode() + b"\n")
                kept.process.stdin.flush()

    def _listen(self) -> None:
        """Read what beats have come, for a moment."""
        self._looked_s = self.clock()
        by_fd = {kept.beats: kept for kept in self._kept if kept.beats >= 0}
        ready, _, _ = select.select(list(by_fd), [], [], LOOK_S)
        for fd in ready:
            if data := os.read(fd, 65536):
                self._note(by_fd[fd], data)
            else:  # closed: it ends
                self._close(by_fd[fd])

    def _note(self, kept: Kept, data: bytes) -> None:
        *lines, kept.buffer = (kept.buffer + data).split(b"\n")
        kept.buffer = kept.buffer[-65536:]
        for line in lines:
            with contextlib.suppress(ValueError):
                kept.facts = json.loads(line)
                kept.was_ready = kept.was_ready or bool(kept.facts.get("ready"))
        kept.patience = self._anew()

    def _end(self) -> None:
        """SIGTERM to all, which are heard until they have ended; after the grace period what is left is killed."""
        for kept in self._kept:
            self._send(kept, signal.SIGTERM)
        deadline = self.clock() + self.grace_s
        while self._bury() and self.clock() < deadline:
            self._listen()
        for kept in self._kept:
            if kept.process is not None:
                log.warning("%s did not end in time and is killed", kept.program.name)
                self._send(kept, signal.SIGKILL)
                kept.process.wait()
                self._forget(kept)

    def _bury(self) -> bool:
        """Forget what has ended; whether anything still runs."""
        for kept in self._kept:
            if kept.process is not None and kept.process.poll() is not None:
                self._forget(kept)
        return any(kept.process is not None for kept in self._kept)

    def _send(self, kept: Kept, number: signal.Signals) -> None:
        if kept.process is not None:
            with contextlib.suppress(ProcessLookupError):
                kept.process.send_signal(number)

    def _forget(self, kept: Kept) -> None:
        if kept.process is not None and kept.process.stdin is not None:
            with contextlib.suppress(OSError):
                kept.process.stdin.close()
        self._close(kept)
        kept.process, kept.facts = None, {}

    def _close(self, kept: Kept) -> None:
        if kept.beats >= 0:
            os.close(kept.beats)
        kept.beats = -1


def back_off_s(failures: int) -> float:
    """Before the next start, after so many in a row that failed."""
    return min(SLOWEST_S, 0.25 * 2 ** min(failures, 10)) if failures else 0.0
