"""Memory that parent and child both see, made by the parent: frames go through it, not through a pipe.

On Linux a memfd, sealed so that the child cannot shrink it under the parent's feet (a read would be a SIGBUS); elsewhere a file
without a name, which has no such seals. Only touched pages cost memory, and all goes when the last descriptor and array are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile

import numpy as np

from worker.types import UInt8


def anonymous_file(size_bytes: int) -> int:
    """A new descriptor of ``size_bytes`` zeros that no path names; the caller closes it."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("veriframe-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return fd
    with tempfile.TemporaryFile() as file:
        file.truncate(size_bytes)
        return os.dup(file.fileno())


class SharedBytes:
    """A mapping of such a file, in which frames are laid out (``layout``)."""

    def __init__(self, fd: int, size_bytes: int, *, writable: bool) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(fd, size_bytes, access=access)

    def part(self, offset: int, size_bytes: int) -> UInt8:
        """uint8 [size_bytes], not copied; read-only unless the mapping is writable."""
        return np.frombuffer(
            self._map, np.uint8, size_bytes, offset
        )  # it keeps the memory mapped; ``np.ndarray(buffer=...)`` would not

    def close(self) -> None:
        """Unmap; where an array still looks at the memory, it goes with the last such array."""
        with contextlib.suppress(BufferError):
            self._map.close()
