"""Starts one of our own modules as a process: orders go to its standard input, what it has to say comes through a pipe."""

from __future__ import annotations

import os
import subprocess
import sys


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
