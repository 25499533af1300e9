"""One side of a comparison in a long-lived process of its own: memory is counted apart, and no side's threads slow the other.

The parent sends JSON requests over a pipe and gets JSON replies, with the wall and CPU time that each took. All sides get the
same number of threads and, where the system can pin processes, the same cores.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, Self

from worker.types import Json

START_TIMEOUT_S = 300.0
ANSWER_TIMEOUT_S = 1800.0
STOP_TIMEOUT_S = 30.0
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Answer = Callable[[Json], Json]
Build = Callable[[Json, int], AbstractContextManager[Answer]]
"""``build(options, threads)``: what a side's process opens once, and asks for every answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """``build``: ``module:function`` of a ``Build``; ``options`` are JSON."""

    name: str
    build: str
    options: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A reply and what it took: ``cpu_s`` is of all threads and processes of the side."""

    wall_s: float
    cpu_s: float
    reply: Json


class SideFailed(RuntimeError):
    """A side's process died, hung, or could not answer; the message says why."""


class Asking(Protocol):
    """What a comparison needs of a side."""

    def ask(self, request: Json) -> Answered: ...


class Side:
    """The parent's handle; a context manager that starts the process, waits until it is ready, and ends it."""

    def __init__(self, rival: Rival, *, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = rival.name
        self.start_up_s = 0.0
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, rival, threads), name=rival.name)
        self._theirs = theirs

    def __enter__(self) -> Self:
        started = time.perf_counter()
        self._process.start()
        self._theirs.close()
        try:
            self._receive(START_TIMEOUT_S)
        except BaseException:
            self._end(wait_s=0)
            raise
        self.start_up_s = time.perf_counter() - started
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end(wait_s=STOP_TIMEOUT_S if kind is None else 0)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def ask(self, request: Json) -> Answered:
        """Raises SideFailed."""
        try:
            self._pipe.send_bytes(json.dumps(request).encode())
        except OSError as exc:
            raise SideFailed(f"{self.name}: its process died") from exc
        return Answered(**self._receive(ANSWER_TIMEOUT_S * max(1, len(request.get("paths", ())))))

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        try:
            if not self._pipe.poll(timeout_s):
                raise SideFailed(f"{self.name}: no answer in {timeout_s:.0f} s")
            reply: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as exc:
            raise SideFailed(f"{self.name}: its process died") from exc
        if "failure" in reply:
            raise SideFailed(f"{self.name}: {reply['failure']}")
        return reply

    def _end(self, wait_s: float) -> None:
        self._pipe.close()
        self._process.join(wait_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(STOP_TIMEOUT_S)


def pin(threads: int) -> None:
    """Give this process as many cores as threads, where the system can, and tell every library's pool so before it is loaded."""
    for variable in POOLS:
        os.environ[variable] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def load(name: str) -> Build:
    module, _, function = name.partition(":")
    build: Build = getattr(importlib.import_module(module), function)
    return build


def measured(answer: Answer, request: Json) -> Answered:
    """One answer with its wall and CPU time."""
    from optimize.bench.cpu import tree_cpu_s

    cpu_s, started = tree_cpu_s(), time.perf_counter()
    reply = answer(request)
    wall_s = time.perf_counter() - started
    return Answered(wall_s=wall_s, cpu_s=tree_cpu_s() - cpu_s, reply=reply)


def _serve(pipe: Connection, rival: Rival, threads: int) -> None:
    """The child: answer requests until the parent closes the pipe, which it does on Ctrl-C too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pin(threads)
    try:
        with load(rival.build)(rival.options, threads) as answer:
            pipe.send_bytes(b"{}")
            while True:
                request = json.loads(pipe.recv_bytes())
                try:
                    done = measured(answer, request)
                    reply: Json = {"wall_s": done.wall_s, "cpu_s": done.cpu_s, "reply": done.reply}
                except Exception as exc:  # noqa: BLE001 - the job boundary: the parent gets the reason
                    reply = {"failure": f"{request.get('path', '')}: {type(exc).__name__}: {exc}"}
                pipe.send_bytes(json.dumps(reply).encode())
    except (EOFError, BrokenPipeError):
        return
    except Exception as exc:  # noqa: BLE001 - start-up failed; the parent gets the reason
        pipe.send_bytes(json.dumps({"failure": f"{type(exc).__name__}: {exc}"}).encode())
