"""What a supervisor or a courier shows over HTTP: the metrics of all its processes, and whether it lives and is ready."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.errors import ConfigError
from worker.queue.probes import probes
from worker.scratch import claim_folder
from worker.service_settings import TelemetrySettings
from worker.telemetry.port import SILENT, Telemetry

log = logging.getLogger(__name__)

Answers = Mapping[str, Callable[[], bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """``folder`` is told to every process below this one; None: nothing is shown, and nobody counts."""

    telemetry: Telemetry
    folder: str | None
    serve: Callable[[Answers], contextlib.AbstractContextManager[object]]
    """Show it, with these answers by path, while the context is open. Raises ConfigError: the address is taken."""


@contextlib.contextmanager
def open_board(settings: TelemetrySettings, temp_dir: Path | None) -> Iterator[Board]:
    """``settings.port`` None: a board on which nothing stands. Raises ConfigError."""
    if settings.port is None:
        yield Board(telemetry=SILENT, folder=None, serve=lambda answers: contextlib.nullcontext())
        return
    from worker.telemetry.exposition import Exposition
    from worker.telemetry.gpu import find_gpus
    from worker.telemetry.shared import SharedTelemetry

    with claim_folder(temp_dir) as folder:
        try:
            telemetry = SharedTelemetry(folder)
        except OSError as exc:
            raise ConfigError(f"source.temp_dir: there is no room for metrics in {folder.parent}: {exc.strerror}") from exc
        telemetry.begin()
        shown = Exposition(folder, find_gpus())
        host, port = settings.host, settings.port
        yield Board(telemetry=telemetry, folder=str(folder), serve=lambda answers: _served(host, port, answers, shown))


@contextlib.contextmanager
def _served(host: str, port: int, answers: Answers, metrics: Callable[[], bytes]) -> Iterator[None]:
    with probes(host, port, answers, metrics, setting="telemetry.port") as taken:
        log.info("metrics at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, taken)
        yield
