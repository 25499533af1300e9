"""Which process a number means: numbers are used again, so one is signalled only if it began when ours began, or bears our mark.

The mark is a secret word in the environment of all that we start, and of what those start: it shows what outlived a killed part.
Linux alone lets us look for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "VF_UP_MARK"
_PROC = Path("/proc")
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process; ``started`` is told by the system, and no later process of that number has the same."""

    pid: int
    started: str


def identity_of(pid: int) -> Identity | None:
    """None: no such process runs (one that has ended and is not buried does not)."""
    started = _started_linux(pid) if sys.platform == "linux" else _started_elsewhere(pid)
    return None if started is None else Identity(pid=pid, started=started)


def is_running(process: Identity) -> bool:
    return identity_of(process.pid) == process


def marked(word: str) -> Iterator[Identity]:
    """All processes of ours that bear this mark; nothing where the system does not show environments."""
    wanted = f"{MARK}={word}".encode()
    for entry in _PROC.glob("[0-9]*"):
        process = identity_of(int(entry.name))
        if process is None or process.pid == os.getpid():
            continue
        with contextlib.suppress(OSError):  # another user's, or gone by now
            if wanted in (entry / "environ").read_bytes().split(b"\0") and is_running(process):
                yield process


def send(process: Identity, number: signal.Signals) -> None:
    """To this process or to none: where the system can, it is held while we look whether it is the one."""
    with contextlib.suppress(ProcessLookupError):
        if not hasattr(os, "pidfd_open"):
            if is_running(process):
                os.kill(process.pid, number)
            return
        handle = os.pidfd_open(process.pid)
        try:
            if is_running(process):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def end_all(processes: Iterable[Identity], *, grace_s: float) -> list[Identity]:
    """SIGTERM, and SIGKILL to those that run after the grace period; returns what even that did not end."""
    left = [process for process in processes if is_running(process)]
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        for process in left:
            send(process, number)
            send(process, signal.SIGCONT)  # a paused one takes no other signal
        left = _left_of(left, patience_s)
    return left


def wait_until(condition: Callable[[], bool], timeout_s: float, *, look_s: float = _LOOK_S) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(look_s)
    return True


def _left_of(processes: list[Identity], timeout_s: float) -> list[Identity]:
    wait_until(lambda: not any(map(is_running, processes)), timeout_s)
    return [process for process in processes if is_running(process)]


def _started_linux(pid: int) -> str | None:
    """The boot's id and the clock tick; proc(5), field 22. A program's name, field 2, may itself hold spaces and parentheses."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else f"{boot}/{int(fields[19])}"


def _started_elsewhere(pid: int) -> str | None:
    told = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "PATH": os.defpath},
        check=False,
    )
    state, _, started = told.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()
