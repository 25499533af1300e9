"""What a machine, or a limit on this process, has no more of: no fault of any file, and another try may help."""

from __future__ import annotations

import errno

_THREADS = "processes or threads (ulimit -u, pids.max)"
_MEMORY = "memory (ulimit -v, memory.max)"
_MORE = {
    errno.EMFILE: "open files (ulimit -n)",
    errno.ENFILE: "open files on this machine (fs.file-max)",
    errno.EAGAIN: _THREADS,
    errno.ENOMEM: _MEMORY,
}


def exhausted(error: BaseException) -> str | None:
    """What there is no more of, with the limits that may be the reason; None: the error speaks of something else."""
    if isinstance(error, OSError):
        return _MORE.get(error.errno or 0)
    if isinstance(error, MemoryError):
        return _MEMORY
    return _THREADS if isinstance(error, RuntimeError) and "can't start new thread" in str(error) else None
