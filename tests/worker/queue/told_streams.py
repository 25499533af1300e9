"""A scanner for real workers that watch: pieces are JSON that says what they show, faces and scores are stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.worker.watch.stream import piece_data, scanner
from worker.pipeline import Scanner
from worker.settings import Settings
from worker.telemetry.port import SILENT, Telemetry

BUILD = f"{__name__}:build"


@contextmanager
def build(settings: Settings, telemetry: Telemetry = SILENT) -> Iterator[Scanner]:
    with scanner() as opened:
        yield opened


def told(*greys: int) -> dict[str, bytes]:
    """Segments of a second each, by name."""
    return {f"seg{number}.ts": piece_data(1.0, (0.0, grey)) for number, grey in enumerate(greys)}
