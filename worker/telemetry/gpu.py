"""What the GPUs of this machine are at: memory and use, by NVIDIA's own program, which comes with the driver."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger(__name__)

PROGRAM = "nvidia-smi"
QUERY = ("--query-gpu=index,memory.used,memory.total,utilization.gpu", "--format=csv,noheader,nounits")
TIMEOUT_S = 5.0
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """``busy``: share of the last moment in which it was at work. None is what is not told: a card in MIG mode tells no use, and
    often no memory, to a user without rights."""

    index: str
    used_bytes: int | None
    total_bytes: int | None
    busy: float | None


class GpuProbe(Protocol):
    def gpus(self) -> Sequence[Gpu]:
        """Never raises: a card that does not answer is none."""
        ...


class NvidiaSmi:
    """Asks anew each time. ``program`` is the path of ``nvidia-smi``."""

    def __init__(self, program: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._program, self._timeout_s = program, timeout_s
        self._is_told = False

    def gpus(self) -> Sequence[Gpu]:
        command = [self._program, *QUERY]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=self._timeout_s, check=True
            )
            found = read_gpus(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as exc:
            if not self._is_told:
                log.warning("the GPUs cannot be asked: %s", exc)
            self._is_told = True
            return ()
        self._is_told = False
        return found


def read_gpus(text: str) -> tuple[Gpu, ...]:
    """One line for each card: index, MiB used, MiB in all, percent. Raises ValueError."""
    found: list[Gpu] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        index, used, total, busy = (part.strip() for part in line.split(","))
        found.append(
            Gpu(
                index=str(int(index)),
                used_bytes=int(used) * MIB if used.isdigit() else None,
                total_bytes=int(total) * MIB if total.isdigit() else None,
                busy=int(busy) / 100 if busy.isdigit() else None,
            )
        )
    return tuple(found)


def find_gpus() -> GpuProbe | None:
    """None without NVIDIA's driver."""
    program = shutil.which(PROGRAM)
    return NvidiaSmi(program) if program else None
