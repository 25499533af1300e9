"""Starts one of our own modules as a process: orders go to its standard input, what it has to say comes through a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

LOOK_S = 0.01


def spawn(module: str) -> tuple[subprocess.Popen[bytes], int]:
    """``python -m MODULE FD OUR_PID``, in a process group of its own; the process, and our end of the pipe FD, which the caller
    closes. Secrets go by standard input, never as an argument. Raises OSError; then nothing is left open."""
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(write), str(os.getpid())],
            stdin=subprocess.PIPE,
            pass_fds=(write,),
            process_group=0,
        )
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    return process, read


def has_ended(process: subprocess.Popen[bytes], within_s: float = 0.0) -> bool:
    """Whether it ends within that time. It is not buried by that: until ``wait``, neither its number nor its group's can be
    another's. (macOS cannot look without burying; there it is.)"""
    deadline = time.monotonic() + within_s
    while True:
        if process.returncode is not None or _is_dead(process):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_S)


def ending(code: int) -> str:
    """How a process ended: the signal's name, or its exit code."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _is_dead(process: subprocess.Popen[bytes]) -> bool:
    if sys.platform == "darwin":
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
