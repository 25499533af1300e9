"""The zygote: a process that imported the decoders once and forks a fresh child for every file.

Imports cost a quarter of a second and more, a fork some milliseconds. It runs one thread only, so that forking is sound; it never
looks at media itself, has no network where the system allows that, and ends when its parent hangs up.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from worker.errors import DecodeCrash
from worker.frames import decord, wire
from worker.frames.child import Descriptors, Opener, serve
from worker.frames.lockdown import leave_network
from worker.types import Json

_POLL_S = 0.001
_KILL_WAIT_S = 2.0
"""A child that waits for a disk dies only when the disk has answered; the other children shall not wait with it."""
_HIGHEST_FD = 1 << 16


def main() -> None:
    """Command line: JSON list of folders to import from, ``module:function`` of the opener, the control socket's descriptor."""
    folders, opener_name, control_fd = sys.argv[1:4]
    sys.path += [folder for folder in json.loads(folders) if folder not in sys.path]
    with socket.socket(fileno=int(control_fd)) as control:
        leave_network()
        _prefer_as_victim()
        try:
            opener = _load(opener_name)
        except Exception as exc:  # noqa: BLE001 (foreign modules being imported may raise anything; the parent is told)
            control.sendall(wire.encode(wire.error_to("internal", f"{type(exc).__name__}: {exc}")))
            return
        gc.collect()
        gc.freeze()  # else the children's collections would copy pages they could share
        control.sendall(wire.encode({"ready": True}))
        unreaped: set[int] = set()
        with suppress(wire.PeerGone):
            while True:
                _obey(control, opener, unreaped)


def _load(name: str) -> Opener:
    module_name, function = name.split(":")
    module = importlib.import_module(module_name)
    importlib.import_module("numpy.ma")  # NumPy imports it late, when some functions are first called
    module.warm_up()  # once locked down, a child can import nothing more
    opener: Opener = getattr(module, function)
    return opener


def _obey(control: socket.socket, opener: Opener, unreaped: set[int]) -> None:
    """Carry out one command and answer it. Children that were slow to die join ``unreaped`` and leave it with a later command."""
    fds: list[int] = []

    def read(size: int) -> bytes:
        data, new, _, _ = socket.recv_fds(control, size, len(Descriptors.__slots__))
        fds.extend(new)
        return data

    try:
        command = wire.read_message(read)
        unreaped -= {pid for pid in unreaped if os.wait4(pid, os.WNOHANG)[0]}
        reply = _fork(control, fds, command["fork"], opener) if "fork" in command else _end(**command["end"], unreaped=unreaped)
        control.sendall(wire.encode(reply))
    finally:
        for fd in fds:
            os.close(fd)


def _fork(control: socket.socket, fds: list[int], options: Json, opener: Opener) -> Json:
    parent_pid = os.getpid()
    if options["decoder"] == decord.NAME:
        try:
            decord.import_early()  # here, once: the child can import nothing
        except Exception as exc:  # noqa: BLE001 (foreign modules being imported may raise anything; the parent is told)
            return wire.error_to("internal", f"decord is installed but does not load: {type(exc).__name__}: {exc}")
    try:
        pid = os.fork()
    except OSError as exc:  # no more processes or memory now; the children that run go on
        return wire.error_to(DecodeCrash.code, f"no process can be started: {exc.strerror}")
    if pid == 0:
        status = 1
        try:
            control.close()
            _close_all_but(fds)
            media, shared, channel = fds
            serve(Descriptors(media=media, shared=shared, channel=channel), options, opener, parent_pid=parent_pid)
            status = 0
        finally:
            os._exit(status)
    return {"pid": pid}


def _end(pid: int, grace_s: float, unreaped: set[int]) -> Json:
    """Reap a child, killing it if it still runs after ``grace_s``. Nobody else reaps, so its number is not another's yet."""
    end = _wait(pid, grace_s)
    if end is not None:
        return end | {"killed": False, "gone": True}
    os.kill(pid, signal.SIGKILL)
    end = _wait(pid, _KILL_WAIT_S)
    if end is None:
        unreaped.add(pid)
        return {"exit": -signal.SIGKILL, "cpu_s": 0.0, "killed": True, "gone": False}
    return end | {"killed": True, "gone": True}


def _wait(pid: int, timeout_s: float) -> Json | None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        reaped, status, usage = os.wait4(pid, os.WNOHANG)
        if reaped:
            return {"exit": os.waitstatus_to_exitcode(status), "cpu_s": usage.ru_utime + usage.ru_stime}
        if time.monotonic() >= deadline_s:
            return None
        time.sleep(_POLL_S)


def _close_all_but(fds: list[int]) -> None:
    low = 3
    for fd in sorted(fds):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, _HIGHEST_FD)


def _prefer_as_victim() -> None:
    """If the machine runs out of memory, the kernel shall take a decoder first."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
