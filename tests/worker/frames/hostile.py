"""Openers for the decoding child that do what an exploited decoder would do, and honest ones whose frames are known.

The zygote imports this module by name; the file they are handed carries their arguments.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from worker.errors import CorruptMedia, MediaTooLong
from worker.frames import wire
from worker.frames.limits import Limits
from worker.frames.media import FRAMES_AHEAD
from worker.pixels import rgb_frame
from worker.ports import OpenMedia
from worker.types import Frame, MediaInfo, MediaKind, SamplingRequest, UInt8


def warm_up() -> None:
    """Nothing is imported late here."""


def pattern(height: int, width: int, number: int) -> UInt8:
    """A frame whose rows differ from each other and from those of its neighbours in time."""
    values = (np.arange(251) * 89 + number * 37) % 256
    return np.resize(values.astype(np.uint8), (height, width, 3))


class Patterns:
    """Media of ``n_frames`` patterns, one a second."""

    lost_share = 0.0

    def __init__(self, width: int, height: int, n_frames: int, kind: str = "video") -> None:
        self.info = MediaInfo(
            kind=MediaKind(kind), container="test", codec="none", width=width, height=height, duration_s=float(n_frames), fps=1.0,
            n_frames=n_frames, decoder="patterns",
        )  # fmt: skip

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        for number in range(min(self.info.n_frames, request.max_frames or self.info.n_frames)):
            yield rgb_frame(float(number), pattern(self.info.height, self.info.width, number))


class Boasting:
    """Says what the file tells it to of itself; an info that may not be an honest one."""

    lost_share = 0.0

    def __init__(self, claims: dict[str, Any]) -> None:
        self.info = dataclasses.replace(Patterns(8, 4, 3).info, **claims)

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        raise NotImplementedError


class Understating(Patterns):
    """Announces frames of 8 x 4, and gives those that the file names."""

    def __init__(self, width: int, height: int, n_frames: int) -> None:
        super().__init__(8, 4, n_frames)
        self.true = Patterns(width, height, n_frames)

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        return self.true.frames(request)


class Jumping(Patterns):
    """Whose clock jumps by a day after the first frame, as that of a badly joined recording."""

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        for frame in super().frames(request):
            yield dataclasses.replace(frame, pts_s=frame.pts_s * 86_400)


class Misbehaving(Patterns):
    """Gives one frame, then does what its subclass does."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__(8, 4, 3)
        self.info = dataclasses.replace(self.info, kind=MediaKind(arguments.get("kind", "video")))
        self.arguments = arguments

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        yield rgb_frame(0.0, pattern(4, 8, 0))
        getattr(self, self.arguments["deed"])()
        yield rgb_frame(1.0, pattern(4, 8, 1))

    def open_socket(self) -> None:
        with socket.socket() as client:
            client.connect(("127.0.0.1", self.arguments["port"]))

    def fork(self) -> None:
        os.fork()

    def show_descriptors(self) -> None:
        kinds = {stat.S_IFREG: "file", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device"}
        held: dict[int, str] = {}
        for fd in range(1024):
            with contextlib.suppress(OSError):
                held[fd] = kinds.get(stat.S_IFMT(os.fstat(fd).st_mode), "else")
        raise CorruptMedia(" ".join(sorted(kind for fd, kind in held.items() if fd > 2)))

    def run_program(self) -> None:
        subprocess.run(["touch", self.arguments["path"]], check=True)

    def become_program(self) -> None:
        os.execv("/bin/touch", ["touch", self.arguments["path"]])

    def write_file(self) -> None:
        Path(self.arguments["path"]).write_text("written")

    def read_file(self) -> None:
        Path("/etc/passwd").read_text()

    def list_folder(self) -> None:
        os.listdir("/")

    def allocate(self) -> None:
        self.hoard = np.ones(4 << 30, np.uint8)

    def spin(self) -> None:
        while True:
            pass

    def spin_ignoring_the_limit(self) -> None:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        self.spin()

    def hang(self) -> None:
        time.sleep(600)

    def kill_itself(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def segfault(self) -> None:
        ctypes.string_at(0)

    def kill_zygote(self) -> None:
        os.kill(os.getppid(), signal.SIGKILL)

    def signal_by_fcntl(self) -> None:
        fcntl.fcntl(self.channel, fcntl.F_SETOWN, os.getppid())

    def trace_zygote(self) -> None:
        ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)

    def leave_quietly(self) -> None:
        os._exit(0)

    def raise_limits(self) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def fail_unforeseen(self) -> None:
        raise RuntimeError("bell \a and escape \x1b[31m " + "x" * 5000)

    def fail_as_media(self) -> None:
        raise CorruptMedia("nothing here")

    def hang_up(self) -> None:
        os.close(self.channel)
        time.sleep(600)

    def flood(self) -> None:
        slots = list(range(1, FRAMES_AHEAD))
        for number in itertools.count(1):
            if not slots:
                slots.append(wire.read_message(lambda size: os.read(self.channel, size))["slot"])
            frame = {"slot": slots.pop(), "width": 8, "height": 4, "pts_s": number * 1e-6, "matrix": 1, "full_range": True}
            self.say({"frame": frame})

    def trickle(self) -> None:
        channel = self.channel
        os.write(channel, (100_000).to_bytes(4, "big"))
        while True:
            os.write(channel, b" ")
            time.sleep(self.arguments["pause_s"])

    def send_raw(self) -> None:
        os.write(self.channel, bytes.fromhex(self.arguments["raw"]))
        time.sleep(600)

    def send(self) -> None:
        self.say(self.arguments["message"])
        time.sleep(600)

    def say(self, message: object) -> None:
        body = json.dumps(message).encode()
        os.write(self.channel, len(body).to_bytes(4, "big") + body)

    @property
    def channel(self) -> int:
        return next(fd for fd in range(3, 16) if _is_socket(fd))


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def _run_threads(count: int) -> int:
    """How many of ``count`` threads, as a decoder may have, ran."""
    done: list[int] = []
    workers = [threading.Thread(target=done.append, args=(n,)) for n in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=10.0)
    return len(done)


def _arguments(file: BinaryIO) -> dict[str, Any]:
    arguments: dict[str, Any] = json.loads(file.read())
    return arguments


@contextlib.contextmanager
def open_misbehaving(file: BinaryIO, limits: Limits, decoder: str, threads: int) -> Iterator[OpenMedia]:
    arguments = _arguments(file)
    if "deed" in arguments:
        yield Misbehaving(arguments)
    elif "claims" in arguments:
        yield Boasting(arguments["claims"])
    elif arguments.pop("understates", False):
        yield Understating(**arguments)
    elif "threads" in arguments:
        yield Patterns(8, 4, _run_threads(arguments["threads"]))
    elif "jumps" in arguments:
        yield Jumping(8, 4, 3)
    elif "hang" in arguments:
        time.sleep(600)
    elif "too_long" in arguments:
        raise MediaTooLong("two days")
    else:
        yield Patterns(**arguments)
