"""A scanner that does nothing: what remains is the queue's own cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.content import Content
from worker.report import Report, Source, new_id, now
from worker.settings import Settings
from worker.telemetry.port import SILENT, Telemetry
from worker.types import Label, SamplingRequest, Strategy


@dataclass(frozen=True, slots=True)
class NoOutput:
    report: Report
    crops: Mapping[str, bytes] = field(default_factory=dict)


class NoOpScanner:
    """Says ``real`` of everything (``worker.queue.perform.QueueScanner``)."""

    fingerprint = "no-op"
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
    ) -> NoOutput:
        moment = now()
        report = Report(id=new_id(), source=Source.of(path), created_at=moment, started_at=moment, status="completed")
        return NoOutput(report.model_copy(update={"verdict": Label.REAL, "score": 0.0, "finished_at": moment}))


@contextmanager
def build(settings: Settings, telemetry: Telemetry = SILENT) -> Iterator[NoOpScanner]:
    """Named by the bench as the worker's builder."""
    yield NoOpScanner()
