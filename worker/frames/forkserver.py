"""The parent's handle of the zygote: starts it, has it fork and reap, replaces it when it died."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.errors import DecodeCrash
from worker.frames import wire
from worker.frames.boot import DEFAULT_OPENER, Booted, boot
from worker.patience import Patience
from worker.types import Json

START_TIMEOUT_S = 60.0
REPLY_TIMEOUT_S = 10.0
END_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnd:
    """How a child ended: exit status (negative: the signal), whether we had to kill it, and the CPU time it took.

    ``gone``: whether it has ended by now; one that was killed may still wait for a disk.
    """

    exit: int
    killed: bool
    cpu_s: float
    gone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """A child and the zygote whose child it is: its number means nothing to another zygote."""

    pid: int
    zygote_pid: int


class ZygoteGone(Exception):
    """The zygote died or does not answer; its children died with it."""


class ForkServer:
    """Safe to use from several threads. ``start`` returns at once; the first ``fork`` waits for the imports."""

    def __init__(self, opener: str = DEFAULT_OPENER, import_path: Sequence[Path] = (), booted: Booted | None = None) -> None:
        """``booted``: its first process, where that was started before."""
        self._opener = opener
        self._import_path = import_path
        self._lock = threading.Lock()
        self._process = None if booted is None else booted.process
        self._control = None if booted is None else wire.Channel(booted.control)
        self._ready = False
        self._unreaped: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        with self._lock:
            self._start()

    def fork(self, options: Json, fds: Sequence[int]) -> Forked:
        """A new child that owns copies of ``fds`` (media, shared, channel). Raises DecodeCrash where none can be had."""
        with self._lock:
            for _ in range(2):
                zygote_pid = self._start()
                with contextlib.suppress(ZygoteGone):
                    reply = self._ask({"fork": options}, fds)
                    if "error" in reply:
                        raise wire.error_from(reply["error"])
                    return Forked(pid=reply["pid"], zygote_pid=zygote_pid)
        raise DecodeCrash("the process that starts decoders died twice")

    def end(self, child: Forked, *, grace_s: float) -> ChildEnd:
        """Wait ``grace_s`` for a child's own end, then kill it. Raises ZygoteGone (the child is dead then, too)."""
        with self._lock:
            if child.zygote_pid != self.pid:
                raise ZygoteGone
            return ChildEnd(**self._ask({"end": {"pid": child.pid, "grace_s": grace_s}}))

    def close(self) -> None:
        """Kill the zygote and with it all children."""
        with self._lock:
            self._discard()

    def _start(self) -> int:
        if self._process is not None and self._process.poll() is None:
            return self._process.pid
        self._discard()
        booted = boot(self._opener, self._import_path)
        self._process, self._control = booted.process, wire.Channel(booted.control)
        return self._process.pid

    def _ask(self, command: Json, fds: Sequence[int] = ()) -> Json:
        if self._control is None:
            raise ZygoteGone
        try:
            if not self._ready:
                self._await_ready(self._control)
            self._control.send(command, timeout_s=REPLY_TIMEOUT_S, fds=fds)
            return self._control.receive(Patience(REPLY_TIMEOUT_S))
        except (wire.PeerGone, TimeoutError) as exc:
            self._discard()
            raise ZygoteGone from exc
        except BaseException:  # an answer may still be on its way to nobody
            self._discard()
            raise

    def _await_ready(self, control: wire.Channel) -> None:
        greeting = control.receive(Patience(START_TIMEOUT_S))
        if "error" in greeting:
            raise DecodeCrash(f"the decoders cannot be loaded: {wire.error_from(greeting['error'])}")
        self._ready = True

    def _discard(self) -> None:
        self._ready = False
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            self._unreaped.append(self._process)
            self._process = None
        self._unreaped = [process for process in self._unreaped if not _has_ended(process)]


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a killed process is gone: one that waits for a disk dies when the disk has answered, and is reaped later."""
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False
    return True
