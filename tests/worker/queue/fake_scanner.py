"""A scanner whose work is what the file's text says, built by name in real scanning processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.worker.exhaustion import no_room_for_the_network
from worker.content import Content
from worker.errors import DecodeCrash, VeriframeError
from worker.report import ErrorItem, FrameItem, Model, Report, Source, new_id, now
from worker.run import Progress
from worker.settings import Settings
from worker.telemetry.port import SILENT, Telemetry
from worker.types import Label, MediaKind, SamplingRequest, Strategy

MODEL = Model(name="fake", version="1", sha256="00" * 32, licence="none", backend="none")


@dataclass(frozen=True, slots=True)
class Output:
    report: Report
    crops: Mapping[str, bytes] = field(default_factory=dict)
    frames: tuple[FrameItem, ...] = ()


class FakeScanner:
    fingerprint = "fake scanner"
    max_bytes = 1 << 20
    request = SamplingRequest(strategy=Strategy.AUTO, max_frames=None, fps=None, start_s=0.0, end_s=None)

    def scan(
        self,
        path: Path,
        *,
        content: Content | None = None,
        on_progress: Callable[[Any], None] | None = None,
        request: SamplingRequest | None = None,
        explain: bool | None = None,
    ) -> Output:
        report = Report(id=new_id(), source=Source.of(path), created_at=now(), started_at=now(), status="completed", model=MODEL)
        words = path.read_bytes().decode("ascii", "replace").split()
        if on_progress:
            on_progress(Progress(decoded=1, wanted=2, stage="infer"))
        for word in words:
            if word.startswith("tell:") and on_progress:
                time.sleep(float(word.removeprefix("tell:")))
                try:
                    on_progress(Progress(decoded=1, wanted=2, stage="decode"))
                except VeriframeError as exc:  # as the real one: whatever ends a scan early becomes its report
                    error = ErrorItem(code="internal", message=str(exc), retryable=False)
                    return Output(report.model_copy(update={"status": "failed", "error": error}))
            ended = act(word)
            if ended is not None:
                return Output(report.model_copy(update={"status": "failed", "error": ended}))
        return Output(report.model_copy(update={"verdict": Label.REAL, "score": 0.1, "finished_at": now()}))


def act(word: str) -> ErrorItem | None:
    """``sleep:SECONDS``, ``hang`` (in C), ``kill``, ``leak:MIB``, ``bug``, ``crash`` (a coded error)."""
    name, _, value = word.partition(":")
    if name == "sleep":
        time.sleep(float(value))
    elif name == "hang":
        ctypes.CDLL(None).sleep(3600)
    elif name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "leak":
        LEAKED.append(bytes(int(value) << 20).replace(b"\0", b"x"))
    elif name == "bug":
        raise RuntimeError("a bug")
    elif name == "crash":
        return ErrorItem(code=DecodeCrash.code, message="the decoder died", retryable=DecodeCrash.retryable)
    return None


LEAKED: list[bytes] = []
KIND = MediaKind.VIDEO


@contextlib.contextmanager
def build_slowly(settings: Settings, telemetry: Telemetry = SILENT) -> Iterator[FakeScanner]:
    """A large model."""
    time.sleep(60)
    yield FakeScanner()


@contextlib.contextmanager
def build_in_vain(settings: Settings, telemetry: Telemetry = SILENT) -> Iterator[FakeScanner]:
    """There is too little memory just now."""
    raise no_room_for_the_network()
    yield


@contextlib.contextmanager
def build(settings: Settings, telemetry: Telemetry = SILENT) -> Iterator[FakeScanner]:
    yield FakeScanner()
