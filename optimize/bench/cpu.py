"""CPU time of this process and all that descend from it, ended or not: what a side costs, whoever else is on the machine."""

from __future__ import annotations

import contextlib
import resource
import time

import psutil


def tree_cpu_s() -> float:
    """Seconds of user and system time so far; a difference of two readings is what was spent between them.

    Our own are exact to microseconds, those of descendants that still run, and of what they have reaped, to a clock tick (10 ms).
    A descendant that ended and was reaped by nobody of the tree is lost.
    """
    reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
    total_s = time.process_time() + reaped.ru_utime + reaped.ru_stime
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            spent = child.cpu_times()
            total_s += spent.user + spent.system + spent.children_user + spent.children_system
    return total_s
