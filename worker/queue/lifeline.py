"""Ends a process when the one that started it does (Linux: the kernel sees to it, however that one ended)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """For this process: ask for ``number`` when the parent ends. Raises SystemExit where it has ended already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(number)) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        raise SystemExit("the process that started this one is gone")


def ending_with(parent_pid: int, number: signal.Signals = signal.SIGKILL) -> Callable[[], None] | None:
    """The same for a program that is not ours to tell so, or knows of no parent: what its process does between fork and exec. It
    is bound to the thread that starts it. Elsewhere than on Linux a killed parent leaves it behind."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def bind_life() -> None:
        prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent_pid:
            os._exit(1)

    return bind_life
