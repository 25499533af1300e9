"""Starts the process that imports the decoders (``worker.frames.zygote``). Imports next to nothing: it can be the first step."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KILL_WAIT_S = 2.0
DEFAULT_OPENER = "worker.frames.choose:open_media"
_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from worker.frames.zygote import main; main()"
# One thread each of BLAS, OpenMP and OpenCV: none may run when the zygote forks, and OpenCV's burn time waiting for one another.
# Two malloc arenas: each takes 64 MiB of the address space limit. Huge pages, where glibc and the kernel can: a decoder's frames
# are new to every child. What is freed, pieces of up to 4 MiB, stays with it for the next frame, 128 MiB at most.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "MALLOC_ARENA_MAX": "2",
    "GLIBC_TUNABLES": ":".join(
        f"glibc.malloc.{name}={value}"
        for name, value in {"hugetlb": 1, "mmap_threshold": 4 << 20, "top_pad": 4 << 20, "trim_threshold": 128 << 20}.items()
    ),
    "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
}
_INHERITED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """The process, which may still be importing, and our end of its control socket."""

    process: subprocess.Popen[bytes]
    control: socket.socket

    def kill(self) -> None:
        """End it. One that waits for a disk is not waited for beyond ``KILL_WAIT_S``."""
        self.control.close()
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(KILL_WAIT_S)


def boot(opener: str = DEFAULT_OPENER, import_path: Sequence[Path] = ()) -> Booted:
    """Returns at once. ``opener`` and ``import_path``: as of ``worker.frames.sandbox.SandboxedFrames``."""
    folders = [*map(str, import_path), *(entry for entry in sys.path if os.path.isabs(entry))]
    ours, theirs = socket.socketpair()
    root = str(Path(__file__).parents[2])
    with theirs:
        arguments = [root, json.dumps(folders), opener, str(theirs.fileno())]
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=_ENVIRONMENT | {name: os.environ[name] for name in _INHERITED if name in os.environ},
            start_new_session=True,  # Ctrl-C is for the parent, which then ends this one
        )
    return Booted(process=process, control=ours)
