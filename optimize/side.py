"""One side of a comparison in a long-lived process of its own: memory is counted apart, and no side's threads slow the other.

The parent sends JSON requests over a pipe and gets JSON replies. Both sides get the same number of threads and, where the
system can pin processes, the same cores.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

SideName = Literal["veriframe", "reference"]
START_TIMEOUT_S = 300.0
SCAN_TIMEOUT_S = 1800.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One scan of one clip by one side. ``times_s``: moments of the looked-at frames, on the presentation clock."""

    total_s: float
    decode_s: float
    detect_s: float
    infer_s: float
    faces: int
    frames: int
    times_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``times_s``: the frames that the reference is to look at; veriframe chooses its own."""

    path: str
    times_s: tuple[float, ...] = ()


class SideFailed(RuntimeError):
    """A side's process died, hung, or could not scan a clip; the message says why."""


class Side:
    """The parent's handle; a context manager that starts the process, waits until it is ready, and ends it.

    max_frames: frames that veriframe looks at in each clip, evenly spaced; None for its default sampling.
    """

    def __init__(self, name: SideName, *, threads: int, max_frames: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.start_up_s = 0.0
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, threads, max_frames), name=name)
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

    def scan(self, path: Path, times_s: Sequence[float] = ()) -> Run:
        """Scan one clip. Raises SideFailed."""
        self._pipe.send_bytes(json.dumps(asdict(Request(path=str(path), times_s=tuple(times_s)))).encode())
        reply = self._receive(SCAN_TIMEOUT_S)
        return Run(**{**reply, "times_s": tuple(reply["times_s"])})

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
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _serve(pipe: Connection, name: SideName, threads: int, max_frames: int | None) -> None:
    """The child: answer requests until the parent closes the pipe."""
    pin(threads)
    try:
        with _veriframe(threads, max_frames) if name == "veriframe" else _reference(threads) as scan:
            pipe.send_bytes(b"{}")
            while True:
                request = Request(**json.loads(pipe.recv_bytes()))
                try:
                    reply = asdict(scan(request))
                except Exception as exc:  # noqa: BLE001 - the job boundary: the parent gets the reason
                    reply = {"failure": f"{request.path}: {type(exc).__name__}: {exc}"}
                pipe.send_bytes(json.dumps(reply).encode())
    except (EOFError, BrokenPipeError):
        return
    except Exception as exc:  # noqa: BLE001 - start-up failed; the parent gets the reason
        pipe.send_bytes(json.dumps({"failure": f"{type(exc).__name__}: {exc}"}).encode())


Scan = Callable[[Request], Run]


@contextmanager
def _veriframe(threads: int, max_frames: int | None) -> Iterator[Scan]:
    from worker.compose import build_scanner
    from worker.settings import load_settings

    sampling = {} if max_frames is None else {"strategy": "uniform", "max_frames": max_frames}
    settings = load_settings(flags={"sampling": sampling, "model": {"threads": threads}, "decode": {"threads": threads}})

    def scan(request: Request) -> Run:
        started = time.perf_counter()
        report = scanner.scan(Path(request.path)).report
        total_s = time.perf_counter() - started
        if report.error is not None or report.timings_ms is None or report.sampling is None:
            raise SideFailed(f"not scanned: {report.error}")
        return Run(
            total_s=total_s,
            decode_s=report.timings_ms.decode / 1000,
            detect_s=report.timings_ms.detect / 1000,
            infer_s=report.timings_ms.infer / 1000,
            faces=sum(len(frame.faces) for frame in report.frames),
            frames=report.sampling.decoded,
            times_s=tuple(frame.t_ms / 1000 for frame in report.frames),
        )

    with build_scanner(settings) as scanner:
        yield scan


@contextmanager
def _reference(threads: int) -> Iterator[Scan]:
    from optimize import reference

    models = reference.load_models(threads)

    def scan(request: Request) -> Run:
        started = time.perf_counter()
        found = reference.scan(Path(request.path), request.times_s, models, threads)
        return Run(total_s=time.perf_counter() - started, times_s=request.times_s, **asdict(found))

    yield scan
