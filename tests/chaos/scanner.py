"""The drill's scanner: text that begins with ``drill`` is done as it says, anything else by the real scanner, opened when needed.

A drill's score follows from its bytes, so that a result which belongs to other bytes is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.chaos.media import DRILL
from tests.worker.queue.fake_scanner import MODEL, Output, act
from worker.content import Content
from worker.report import Report, Source, new_id, now
from worker.run import Progress
from worker.settings import Settings
from worker.telemetry.port import SILENT, Telemetry
from worker.types import Label, SamplingRequest, Strategy

WARM_UP = "warm-up.png"


class DrillScanner:
    fingerprint = "chaos drill"
    max_bytes = 1 << 26
    request = SamplingRequest(strategy=Strategy.AUTO, max_frames=None, fps=None, start_s=0.0, end_s=None)

    def __init__(self, settings: Settings, stack: contextlib.ExitStack, telemetry: Telemetry) -> None:
        self._settings, self._stack, self._telemetry = settings, stack, telemetry
        self._real: Any = None

    def scan(
        self,
        path: Path,
        *,
        content: Content | None = None,
        on_progress: Callable[[Any], None] | None = None,
        request: SamplingRequest | None = None,
        explain: bool | None = None,
    ) -> Any:
        data = path.read_bytes()
        if data.startswith(DRILL):
            return drilled(path, data, on_progress)
        if path.name == WARM_UP:
            return None
        if self._real is None:
            from worker.compose import build_scanner

            self._real = self._stack.enter_context(build_scanner(self._settings, self._telemetry))
        return self._real.scan(path, content=content, on_progress=on_progress, request=request, explain=explain)


def drilled(path: Path, data: bytes, on_progress: Callable[[Any], None] | None) -> Output:
    report = Report(id=new_id(), source=Source.of(path), created_at=now(), started_at=now(), status="completed", model=MODEL)
    if on_progress:
        on_progress(Progress(decoded=1, wanted=2, stage="infer"))
    for word in data.decode().split():
        ended = act(word)
        if ended is not None:
            return Output(report.model_copy(update={"status": "failed", "error": ended}))
    score = score_of(data)
    verdict = Label.FAKE if score > 0.5 else Label.REAL
    return Output(report.model_copy(update={"verdict": verdict, "score": score, "finished_at": now()}))


def score_of(data: bytes) -> float:
    return int(hashlib.sha256(data).hexdigest()[:4], 16) / 0x10000


@contextlib.contextmanager
def build(settings: Settings, telemetry: Telemetry = SILENT) -> Iterator[DrillScanner]:
    with contextlib.ExitStack() as stack:
        yield DrillScanner(settings, stack, telemetry)
