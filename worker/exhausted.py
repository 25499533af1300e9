"""What a machine, or a limit on this process, has no more of: no fault of any file, and another try may help."""

from __future__ import annotations

import errno
import logging
import mmap

from worker.errors import ModelError

_THREADS = "processes or threads (ulimit -u, pids.max)"
_MEMORY = "memory (ulimit -v, memory.max)"
_NO_ROOM_TO_LOAD = ("failed to map segment from shared object", "Cannot allocate memory")
"""How the dynamic linker says it; where the reason is another, such as a folder mounted noexec, that follows."""
_NO_ALLOCATION = ("std::bad_alloc", "Failed to allocate memory")
"""How a library in C++, and ONNX Runtime of its buffers, say it in an error of their own."""
_MORE = {
    errno.EMFILE: "open files (ulimit -n)",
    errno.ENFILE: "open files on this machine (fs.file-max)",
    errno.EAGAIN: _THREADS,
    errno.ENOMEM: _MEMORY,
    errno.EFBIG: "bytes in one file (ulimit -f)",
}
_TO_BEGIN_BYTES = 32 << 20
"""A thread's stack, of which systems give 8 MiB by default, and what Python allocates in it before anything else."""


def check_room_for_a_thread() -> None:
    """Raises OSError (ENOMEM) where a thread may find no memory to begin with: it then ends without a word, and Python's
    ``Thread.start`` waits for it for ever (https://github.com/python/cpython/issues/140746)."""
    mmap.mmap(-1, _TO_BEGIN_BYTES, flags=mmap.MAP_PRIVATE).close()


def exhausted(error: BaseException) -> str | None:
    """What there is no more of, with the limits that may be the reason; None: the error speaks of something else."""
    if isinstance(error, BlockingIOError) and (error.filename or "without blocking" in str(error)):
        return None  # a file that is held, or a pipe whose reader is slow: the same number
    if isinstance(error, OSError):
        return _MORE.get(error.errno or 0)
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and str(error).endswith(_NO_ROOM_TO_LOAD)):
        return _MEMORY
    if isinstance(error, ModelError) and error.__cause__ is not None:
        said = str(error.__cause__)
        return exhausted(error.__cause__) or (_MEMORY if any(phrase in said for phrase in _NO_ALLOCATION) else None)
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):  # PyTorch
        return _MEMORY
    return _THREADS if isinstance(error, RuntimeError) and "can't start new thread" in str(error) else None


def lacking(error: BaseException) -> str | None:
    """``exhausted`` in a sentence, with what the error says."""
    more = exhausted(error)
    return None if more is None else f"this process may not have more {more}: {error}"


def log_failure(log: logging.Logger, what: str, error: Exception) -> None:
    """What failed: in a line where it is ``lacking``; otherwise a bug, with its place."""
    if short := lacking(error):
        log.error("%s: %s", what, short)
    else:
        log.error("%s", what, exc_info=error)
