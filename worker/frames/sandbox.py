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
import signal
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.errors import DecodeCrash, DecodeError, DecodeTimeout, SourceError, VeriframeError
from worker.frames import sampling, wire
from worker.frames.forkserver import Forked, ForkServer, ZygoteGone
from worker.frames.limits import Limits
from worker.frames.sharing import SharedBytes, anonymous_file
from worker.pixels import rgb_frame
from worker.ports import OpenMedia
from worker.types import Frame, Json, MediaInfo, MediaKind, SamplingRequest

DEFAULT_OPENER = "worker.frames.choose:open_media"
MAX_SLOTS = 8
"""The child decodes at most so many frames ahead."""
_PAGE_BYTES = 1 << 16
_EXIT_GRACE_S = 0.5
_SIGNALS = {int(s): s.name for s in signal.Signals}


class SandboxedFrames:
    """A FrameSource, and a context manager that owns the process its children are forked from.

    ``timeout_s`` is how long a caller waits for one file in all, its own work between frames not counted; ``cpu_s`` the CPU time
    a child may take (default: ``threads * timeout_s``); ``memory_bytes`` what it may allocate beyond the imported libraries;
    ``shared_bytes`` the memory its frames may take (but always one frame of the largest size allowed). ``opener`` and
    ``import_path`` name the function that opens media in the child; they never come from a user or a file.
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
        opener: str = DEFAULT_OPENER,
        import_path: Sequence[Path] = (),
    ) -> None:
        self._limits = limits
        self._timeout_s = timeout_s
        self._cpu_s = threads * timeout_s if cpu_s is None else cpu_s
        self._shared_bytes = _whole_pages(max(shared_bytes, 3 * limits.max_pixels, 3 * limits.max_picture_pixels))
        self._frame_bytes = shared_bytes
        self._options: Json = {
            "limits": asdict(limits),
            "decoder": decoder,
            "threads": threads,
            "memory_bytes": memory_bytes,
            "cpu_s": self._cpu_s,
            "shared_bytes": self._shared_bytes,
        }
        self._server = ForkServer(opener, import_path)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill all children; the next ``open`` would start anew."""
        self._server.close()

    @property
    def zygote_pid(self) -> int | None:
        return self._server.pid

    @contextlib.contextmanager
    def open(self, path: Path) -> Iterator[OpenMedia]:
        """Media at ``path`` in a child of its own, killed on leaving. Raises SourceError, MediaError or DecodeError."""
        with contextlib.ExitStack() as stack:
            media_fd = _open_regular(path)
            stack.callback(os.close, media_fd)
            shared_fd = anonymous_file(self._shared_bytes)
            stack.callback(os.close, shared_fd)
            ours, theirs = socket.socketpair()
            stack.callback(ours.close)
            with theirs:
                forked = self._server.fork(self._options, (media_fd, shared_fd, theirs.fileno()))
            child = _Child(self._server, forked, wire.Channel(ours), timeout_s=self._timeout_s, cpu_s=self._cpu_s)
            stack.callback(child.kill)
            shared = SharedBytes(shared_fd, self._shared_bytes, writable=False)
            stack.callback(shared.close)
            info = child.open(self._limits)
            slots = _slots(info, self._frame_bytes)
            max_pixels = wire.pixels_allowed(info.kind, self._limits)
            yield _SandboxedMedia(child, info, shared, slots, self._shared_bytes // slots, max_pixels)


class _Child:
    """One child as the parent sees it: a channel, a budget of waiting time, and an end."""

    def __init__(self, server: ForkServer, forked: Forked, channel: wire.Channel, *, timeout_s: float, cpu_s: float) -> None:
        self._server = server
        self._forked = forked
        self._channel = channel
        self._timeout_s = timeout_s
        self._left_s = timeout_s
        self._cpu_s = cpu_s
        self._ended = False

    @property
    def pid(self) -> int:
        return self._forked.pid

    def open(self, limits: Limits) -> MediaInfo:
        message = self.receive()
        try:
            return wire.info_from(_part(message, "info"), limits)
        except wire.ProtocolError as exc:
            raise self.broke_protocol(exc) from exc

    def send(self, message: Json) -> None:
        if self._ended:
            raise DecodeCrash("the decoder has ended")
        try:
            self._channel.send(message, timeout_s=self._left_s)
        except TimeoutError as exc:
            raise self._timed_out() from exc
        except wire.PeerGone:
            pass  # its last words, or the reason of its end, come by receive

    def receive(self) -> Json:
        """The child's next message; an error message is raised. Only waiting here counts against the time limit."""
        if self._ended:
            raise DecodeCrash("the decoder has ended")
        started_s = time.monotonic()
        try:
            message = self._channel.receive(timeout_s=self._left_s)
        except TimeoutError as exc:
            raise self._timed_out() from exc
        except wire.PeerGone as exc:
            raise self._died() from exc
        except wire.ProtocolError as exc:
            raise self.broke_protocol(exc) from exc
        finally:
            self._left_s -= time.monotonic() - started_s
        if "error" in message:
            raise self._told(message["error"])
        return message

    def broke_protocol(self, exc: wire.ProtocolError) -> DecodeError:
        self.kill()
        return DecodeCrash(f"the decoder broke the protocol: {exc}")

    def kill(self) -> None:
        if not self._ended:
            self._ended = True
            with contextlib.suppress(ZygoteGone):
                self._server.end(self._forked, grace_s=0.0)

    def _timed_out(self) -> DecodeError:
        self.kill()
        return DecodeTimeout(f"decoding took longer than {self._timeout_s:g} s")

    def _told(self, error: object) -> VeriframeError:
        self.kill()
        return wire.error_from(error) if isinstance(error, dict) else DecodeCrash("the decoder broke the protocol: bad error")

    def _died(self) -> DecodeError:
        self._ended = True
        try:
            end = self._server.end(self._forked, grace_s=_EXIT_GRACE_S)
        except ZygoteGone:
            return DecodeCrash("the decoder died with the process that started it")
        if end.killed:
            return DecodeCrash("the decoder hung up")
        if end.exit == -signal.SIGXCPU or (end.exit == -signal.SIGKILL and end.cpu_s >= self._cpu_s):
            return DecodeTimeout(f"decoding took more than {self._cpu_s:g} s of CPU time")
        if end.exit == -signal.SIGSYS:
            return DecodeCrash("the decoder made a forbidden system call")
        if end.exit < 0:
            return DecodeCrash(f"the decoder was ended by {_SIGNALS.get(-end.exit, -end.exit)}")
        return DecodeCrash(f"the decoder exited with status {end.exit}")


class _SandboxedMedia:
    """OpenMedia over a child. One pass at a time: a new one ends the one before."""

    def __init__(self, child: _Child, info: MediaInfo, shared: SharedBytes, slots: int, slot_bytes: int, max_pixels: int) -> None:
        self._child = child
        self._info = info
        self._shared = shared
        self._slots = slots
        self._slot_bytes = slot_bytes
        self._max_pixels = max_pixels
        self._streaming = False
        self._passes = 0

    @property
    def info(self) -> MediaInfo:
        return self._info

    @property
    def child_pid(self) -> int:
        return self._child.pid

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """Arrays are read-only and lie in shared memory: the next frame, or leaving ``open``, may change them."""
        self._end_pass()
        self._passes += 1
        self._streaming = True
        order = {"frames": wire.request_to(request), "slots": self._slots, "slot_bytes": self._slot_bytes}
        self._child.send(order)
        return self._pass(self._passes, request)

    def _pass(self, number: int, request: SamplingRequest) -> Iterator[Frame]:
        free = set(range(self._slots))
        most = _most_frames(request, self._info)
        given, last_s = 0, float("-inf")
        while True:
            if number != self._passes:
                raise RuntimeError("a later pass over the media ended this one")
            message = self._child.receive()
            if "end" in message:
                self._streaming = False
                return
            header = self._header(message, free)
            given += 1
            if header.pts_s <= last_s or given > most:
                raise self._child.broke_protocol(wire.ProtocolError("frames out of order, or more than asked for"))
            last_s = header.pts_s
            free.discard(header.slot)
            rgb_HWC = self._shared.frame(header.slot * self._slot_bytes, header.height, header.width)
            yield rgb_frame(header.pts_s, rgb_HWC)
            free.add(header.slot)
            if number == self._passes:
                self._child.send({"slot": header.slot})

    def _header(self, message: Json, free: set[int]) -> wire.FrameHeader:
        try:
            part = _part(message, "frame")
            return wire.frame_from(
                part,
                max_pixels=self._max_pixels,
                duration_s=self._info.duration_s,
                slots=free,
                slot_bytes=self._slot_bytes,
            )
        except wire.ProtocolError as exc:
            raise self._child.broke_protocol(exc) from exc

    def _end_pass(self) -> None:
        if not self._streaming:
            return
        self._child.send({"stop": True})
        for _ in range(self._slots + 1):
            if "end" in self._child.receive():
                self._streaming = False
                return
        raise self._child.broke_protocol(wire.ProtocolError("frames without a slot"))


def _most_frames(request: SamplingRequest, info: MediaInfo) -> int:
    """No plan of the request has more moments. ``n_frames`` may be an estimate that is too low, so it bounds nothing here."""
    if info.kind is MediaKind.PICTURE:
        return 1
    if request.times_s is not None:
        return min(len(request.times_s), request.max_frames or len(request.times_s))
    asked = sampling.frames_asked(request, info.duration_s, sampling.MAX_FPS_TIMES)
    return request.max_frames or sampling.FIRST_PASS_MAX if asked is None else asked


def _part(message: Json, key: str) -> Json:
    part = message.get(key)
    if not isinstance(part, dict):
        raise wire.ProtocolError(f"no {key}")
    return part


def _slots(info: MediaInfo, bound_bytes: int) -> int:
    return max(1, min(MAX_SLOTS, bound_bytes // _whole_pages(3 * info.width * info.height)))


def _whole_pages(size_bytes: int) -> int:
    return -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES


def _open_regular(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        reason = "it is a link" if exc.errno == errno.ELOOP else exc.strerror
        raise SourceError(f"cannot open {path}: {reason}") from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SourceError(f"{path} is not a regular file")
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    return fd
