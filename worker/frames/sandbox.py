"""Frames of files that nobody vouches for, decoded in a process that can do nothing else.

Threat model: the file is written by an attacker who knows a bug in a demuxer or decoder and runs code of his own in the process
that decodes. That process must not reach the network, other files, other processes or our memory, must not outlive its limits,
and what it says is checked as hostile. It can lie about pixels and times, no more. Every file gets a process of its own, so a
file cannot harm the next one. Not covered: bugs of the kernel behind the few system calls left, and side channels.

The parent opens the file (a regular one, no link at its end), and hands over its descriptor, never a path.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.errors import SourceError
from worker.exhausted import exhausted
from worker.frames import seccomp, wire
from worker.frames.boot import DEFAULT_OPENER, Booted
from worker.frames.forkserver import ForkServer
from worker.frames.limits import Limits
from worker.frames.media import Room, SandboxedMedia, slots_for
from worker.frames.peer import Peer
from worker.frames.sharing import SharedMemories, SharedMemory
from worker.pixels import FRAME_PX
from worker.ports import OpenMedia
from worker.types import Json, MediaKind

_PAGE_BYTES = 1 << 16


class SandboxedFrames:
    """A FrameSource, and a context manager that owns the process its children are forked from.

    ``timeout_s`` is how long a caller waits for one file in all, its own work between frames not counted; ``cpu_s`` the CPU time
    a child may take (default: ``threads * timeout_s``); ``memory_bytes`` what it may allocate beyond the imported libraries;
    ``shared_bytes`` the memory its frames may take (but always one frame of the largest size allowed). ``on_lost`` is told of
    each child that ended before its work did, and why (``worker.frames.peer.Lost``); ``on_software`` of each video that was to be
    decoded on a card and is not. ``opener`` and
    ``import_path`` name the function that opens media in the child; they never come from a user or a file. ``booted``, a process
    that was started for these two before, is owned from here on.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        decoder: str = "auto",
        threads: int = 1,
        timeout_s: float = 120.0,
        memory_bytes: int = 2 << 30,
        cpu_s: float | None = None,
        shared_bytes: int = 64 << 20,
        on_lost: Callable[[str], None] = lambda why: None,
        on_software: Callable[[], None] = lambda: None,
        opener: str = DEFAULT_OPENER,
        import_path: Sequence[Path] = (),
        booted: Booted | None = None,
    ) -> None:
        self._limits = limits
        self._timeout_s = timeout_s
        self._on_lost = on_lost
        self._on_software = on_software
        self._cpu_s = threads * timeout_s if cpu_s is None else cpu_s
        largest = 3 * (max(limits.max_pixels, limits.max_picture_pixels) + FRAME_PX)
        self._shared_bytes = _whole_pages(max(shared_bytes, largest))
        self._frame_bytes = shared_bytes
        self._options: Json = {
            "limits": asdict(limits),
            "decoder": decoder,
            "threads": threads,
            "memory_bytes": memory_bytes,
            "cpu_s": self._cpu_s,
            "shared_bytes": self._shared_bytes,
        }
        self._memories = SharedMemories(self._shared_bytes)
        self._dies_whole = seccomp.is_supported()
        """Whether a child that is gone left no process of its own behind, with the memory in its hands: it can start none."""
        self._server = ForkServer(opener, import_path, booted)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill all children; the next ``open`` would start anew."""
        self._server.close()
        self._memories.close()

    @property
    def zygote_pid(self) -> int | None:
        return self._server.pid

    @contextlib.contextmanager
    def open(self, path: Path) -> Iterator[OpenMedia]:
        """Media at ``path`` in a child of its own, killed on leaving. Raises SourceError, MediaError or DecodeError; OSError
        where the machine is ``exhausted``."""
        with contextlib.ExitStack() as stack:
            media_fd = _open_regular(path)
            stack.callback(os.close, media_fd)
            shared = self._memories.take()
            try:
                ours, theirs = socket.socketpair()
                stack.callback(ours.close)
                with theirs:
                    forked = self._server.fork(self._options, (media_fd, shared.fd, theirs.fileno()))
            except BaseException:
                shared.close()
                raise
            peer = Peer(self._server, forked, wire.Channel(ours), timeout_s=self._timeout_s, cpu_s=self._cpu_s)
            stack.callback(self._let_go, peer, shared)
            info = peer.open(self._limits)
            if self._options["decoder"] == wire.NVDEC and info.kind is MediaKind.VIDEO and info.decoder != wire.NVDEC:
                self._on_software()
            slots = slots_for(info, self._frame_bytes)
            max_pixels = wire.pixels_allowed(info.kind, self._limits)
            yield SandboxedMedia(peer, info, Room(shared, slots, self._shared_bytes // slots, max_pixels))

    def _let_go(self, peer: Peer, shared: SharedMemory) -> None:
        peer.kill()
        if peer.is_gone and self._dies_whole:
            self._memories.give_back(shared)
        else:
            shared.close()
        if peer.lost is not None:
            self._on_lost(peer.lost)


def _whole_pages(size_bytes: int) -> int:
    return -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES


def _open_regular(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exhausted(exc):
            raise
        reason = "it is a link" if exc.errno == errno.ELOOP else exc.strerror
        raise SourceError(f"cannot open {path}: {reason}") from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SourceError(f"{path} is not a regular file")
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    return fd
