"""The parent's hold on its scanning process: start it, give it work, hear from it, kill it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from worker.errors import BY_CODE, VeriframeError
from worker.queue.spawn import ending, has_ended, spawn

MAX_LINE = 1 << 20
LOOK_S = 0.5
RETIRE_S = 1.0
ENDING_S = 1.0


class ChildDied(VeriframeError):
    """It ended, or broke the protocol; its model must be loaded anew."""

    retryable = True


class NotReady(VeriframeError):
    """It did not run the model once in time."""

    retryable = True


@dataclass(slots=True, kw_only=True)
class WarmChild:
    """One process at a time, of a process group of its own; ``served`` and ``grown_mib`` tell when to replace it."""

    settings: dict[str, Any] = field(repr=False)
    build: str
    streams: str
    boot_timeout_s: float
    telemetry: str | None = None
    """Folder of the metrics that all processes share; None: they tell none."""
    served: int = 0
    starts: int = 0
    replace: bool = False
    first_mib: float = 0.0
    memory_mib: float = 0.0
    _is_warm: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _answers: int = -1
    _buffer: bytes = b""
    _lines: deque[dict[str, Any]] = field(default_factory=deque)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def is_alive(self) -> bool:
        return self._process is not None and not has_ended(self._process)

    @property
    def is_ready(self) -> bool:
        """It runs, and its model has run once."""
        return self._is_warm and self.is_alive

    @property
    def grown_mib(self) -> float:
        return self.memory_mib - self.first_mib

    def start(self, keep_waiting: Callable[[], bool] = lambda: True) -> None:
        """Returns when the model has run once, or ``keep_waiting``, asked twice a second, says no: then there is no process.

        Raises NotReady, ChildDied, or what the child was refused for.
        """
        self.retire()
        self._process, self._answers = spawn("worker.queue.child")
        self._buffer, self.served, self.replace = b"", 0, False
        self._lines.clear()
        self.starts += 1
        order = {"settings": self.settings, "build": self.build, "streams": self.streams, "telemetry": self.telemetry}
        self.send(order)
        said = self._hear_until(time.monotonic() + self.boot_timeout_s, keep_waiting)
        if said is None and not keep_waiting():
            self.kill()
            return
        if said is None:
            self.kill()
            raise NotReady(f"the scanning process was not ready within {self.boot_timeout_s:g} s")
        if "refused" in said:
            self.kill()
            raise BY_CODE.get(said["refused"], ChildDied)(said["message"])
        self.first_mib = self.memory_mib
        self._is_warm = True

    def send(self, order: dict[str, Any]) -> None:
        """Raises ChildDied."""
        if self._process is None or self._process.stdin is None:
            raise ChildDied("the scanning process is not there")
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise ChildDied(f"the scanning process ended ({self._bury()})") from exc

    def nudge(self) -> None:
        """Ask it to end its slice of a watch now; to be repeated until it does."""
        if self._process is not None and self.is_ready:
            self._process.send_signal(signal.SIGUSR1)

    def hear(self, timeout_s: float) -> dict[str, Any] | None:
        """The next answer, or None after ``timeout_s``. Raises ChildDied."""
        if self._process is None:
            raise ChildDied("the scanning process is not there")
        if not self._lines:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, timeout_s))
            if not ready:
                return None
            self._read()
        if not self._lines:
            return None
        said = self._lines.popleft()
        self.memory_mib = float(said.get("memory_mib", self.memory_mib))
        self.replace = self.replace or bool(said.get("replace"))
        return said

    def retire(self) -> None:
        """End it without force where it heeds the end of its orders: it then leaves nothing behind."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            has_ended(self._process, RETIRE_S)
        self.kill()

    def kill(self) -> str:
        """End it and all that it started, at once; says how it ended. Only here it is buried: until then its group is its own."""
        if self._process is None:
            return "not started"
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        how = ending(self._process.wait())
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        os.close(self._answers)
        self._process, self._answers, self._is_warm = None, -1, False
        return how

    def _bury(self) -> str:
        """After the end of its pipe: how it ended, with all that it started."""
        if self._process is not None and not has_ended(self._process, ENDING_S):
            self.kill()
            return "closed its pipe"
        return self.kill()

    def _hear_until(self, deadline: float, keep_waiting: Callable[[], bool]) -> dict[str, Any] | None:
        while (left := deadline - time.monotonic()) > 0 and keep_waiting():
            if said := self.hear(min(left, LOOK_S)):
                return said
        return None

    def _read(self) -> None:
        data = os.read(self._answers, 65536)
        if not data:
            raise ChildDied(f"the scanning process ended ({self._bury()})")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_LINE:
            raise ChildDied("the scanning process sent no line but noise")
        try:
            self._lines.extend(json.loads(line) for line in lines)
        except ValueError as exc:
            raise ChildDied("the scanning process sent what is no JSON") from exc
