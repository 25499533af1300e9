"""How many cores this process may use, and what of them one scan should take."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
THREADS_FED = 4
"""Threads that one decoding child keeps busy: decoding takes about a fifth of a scan's CPU time, of 1080p a third."""


def usable_cores() -> int:
    """Cores by affinity, and no more than the control groups' quotas pay for (rounded up), at least 1."""
    return max(1, math.ceil(min(affine_cores(), quota_cores())))


def scan_threads(workers: int = 1, cores: int | None = None) -> int:
    """Threads of each of so many scanning processes: together no more than cores, and no more than their decoders feed."""
    return max(1, min(THREADS_FED, (cores or usable_cores()) // workers))


def quota_cores(own: Path = OWN_CGROUPS, root: Path = CGROUPS) -> float:
    """Cores that the quotas of this process's control groups (v1 and v2) and of those above them allow; infinite without any.

    In a container the groups are often mounted at their own root while ``own`` names them as the host does: then the root counts.
    """
    try:
        lines = own.read_text("ascii", "replace").splitlines()
    except OSError:
        return math.inf
    found = [math.inf]
    for line in lines:
        number, controllers, group = line.split(":", 2)
        if number == "0":
            found += [_v2(folder) for top in (root, root / "unified") for folder in _upwards(top, group)]
        elif "cpu" in controllers.split(","):
            found += [_v1(folder) for top in (root / "cpu", root / controllers) for folder in _upwards(top, group)]
    return min(found)


def affine_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _upwards(top: Path, group: str) -> list[Path]:
    """The group's folder and those above it, up to ``top``."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    return [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _v2(folder: Path) -> float:
    words = _words(folder / "cpu.max")
    return _share(words[0], words[1]) if len(words) == 2 else math.inf


def _v1(folder: Path) -> float:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return _share(quota[0], period[0]) if quota and period else math.inf


def _words(file: Path) -> list[str]:
    try:
        return file.read_text("ascii", "replace").split()
    except OSError:
        return []


def _share(quota: str, period: str) -> float:
    """``max`` and -1 mean no limit."""
    if not (quota.isdigit() and period.isdigit()) or int(quota) == 0 or int(period) == 0:
        return math.inf
    return int(quota) / int(period)
