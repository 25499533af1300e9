"""Memory that parent and child both see, made by the parent: frames go through it, not through a pipe.

On Linux a memfd, sealed so that the child cannot shrink it under the parent's feet (a read would be a SIGBUS); elsewhere a file
without a name, which has no such seals. Only touched pages cost memory, and all goes when the last descriptor and array are gone.
A memfd is used again for the next file, wiped: pages new to a process, zeroed and freed, cost more than the frames written there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from worker.types import UInt8

KEPT = 2
"""So many memories at most wait for the next file."""
KEPT_BYTES = 128 << 20
"""What each of them holds at most, from its beginning."""
_HAS_MEMFD = hasattr(os, "memfd_create")
_MAPPED_AT_ONCE = 64 << 10
"""Bytes around a page that is read which Linux maps with it, where they are in memory (its default)."""


def anonymous_file(size_bytes: int) -> int:
    """A new descriptor of ``size_bytes`` zeros that no path names; the caller closes it."""
    if _HAS_MEMFD:
        fd = os.memfd_create("veriframe-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size_bytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except BaseException:
            os.close(fd)
            raise
        return fd
    with tempfile.TemporaryFile() as file:
        file.truncate(size_bytes)
        return os.dup(file.fileno())


class FilledMemory:
    """The child's side: it writes."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._map = mmap.mmap(fd, size_bytes)

    def part(self, offset: int, size_bytes: int) -> UInt8:
        """uint8 [size_bytes], not copied."""
        return np.frombuffer(self._map, np.uint8, size_bytes, offset)

    def prepare(self, offset: int, size_bytes: int) -> None:
        """Read a byte of every sixteenth page: those of a file before are then mapped, which a write would do one by one."""
        self.part(offset, size_bytes)[::_MAPPED_AT_ONCE].max(initial=0)


class SharedMemory:
    """The parent's side of ``size_bytes`` zeros: it reads, and wipes."""

    def __init__(self, size_bytes: int) -> None:
        self.fd = anonymous_file(size_bytes)
        """For the child; it stays this object's."""
        try:
            self._map = mmap.mmap(self.fd, size_bytes)
        except BaseException:
            os.close(self.fd)
            raise
        self._close_fd = weakref.finalize(self, os.close, self.fd)  # or it would hold the memory of an object that was lost
        self._close_fd.atexit = False
        self._parts: deque[None] = deque()
        """One for each part that is left; whichever thread drops a part's last reference takes one away."""

    @property
    def is_seen(self) -> bool:
        """Whether an array still looks at it."""
        return bool(self._parts)

    def part(self, offset: int, size_bytes: int, on_gone: Callable[[], None] = lambda: None) -> UInt8:
        """uint8 [size_bytes], not copied, read-only. ``on_gone`` is called once neither it nor a view of it is left."""
        # ``frombuffer`` keeps the memory mapped; ``np.ndarray(buffer=...)`` would not
        memory = np.frombuffer(self._map, np.uint8, size_bytes, offset)
        memory.flags.writeable = False
        self._parts.append(None)
        weakref.finalize(memory, self._end_part, on_gone).atexit = False
        return memory

    def wipe(self, keep_bytes: int) -> None:
        """All zeros again; what lies behind the first ``keep_bytes`` takes no memory any more. Only where nobody else maps it."""
        if keep_bytes < len(self._map):
            self._map.madvise(mmap.MADV_REMOVE, keep_bytes)
        for start, end in self._touched():  # wherever a child wrote, in its slots or not
            np.frombuffer(self._map, np.uint8, end - start, start).fill(0)

    def close(self) -> None:
        """Unmap; where an array still looks at the memory, it goes with the last such array."""
        self._close_fd()
        with contextlib.suppress(BufferError):
            self._map.close()

    def _end_part(self, on_gone: Callable[[], None]) -> None:
        self._parts.pop()
        on_gone()

    def _touched(self) -> Iterator[tuple[int, int]]:
        """Start and end of what takes memory."""
        end = 0
        while True:
            try:
                start = os.lseek(self.fd, end, os.SEEK_DATA)
            except OSError as exc:
                if exc.errno == errno.ENXIO:  # none behind
                    return
                raise
            end = os.lseek(self.fd, start, os.SEEK_HOLE)
            yield start, end


class SharedMemories:
    """Memories of one size, each for one file at a time. Safe to use from several threads."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._lock = threading.Lock()
        self._kept: list[SharedMemory] = []

    def take(self) -> SharedMemory:
        """All zeros. Whoever takes it gives it back or closes it."""
        with self._lock:
            if self._kept:
                return self._kept.pop()
        return SharedMemory(self._size_bytes)

    def give_back(self, memory: SharedMemory) -> None:
        """Nobody but this process maps it any more: keep it for the next file, wiped, or let it go."""
        if self._may_keep(memory):
            with self._lock:
                if len(self._kept) < KEPT:
                    self._kept.append(memory)
                    return
        memory.close()

    def close(self) -> None:
        """Let go what is kept."""
        with self._lock:
            kept, self._kept = self._kept, []
        for memory in kept:
            memory.close()

    def _may_keep(self, memory: SharedMemory) -> bool:
        """It is wiped then."""
        if not _HAS_MEMFD or memory.is_seen or len(self._kept) >= KEPT:
            return False
        try:
            memory.wipe(KEPT_BYTES)
        except OSError:  # as gVisor's, which cannot tell what was touched
            return False
        return True
