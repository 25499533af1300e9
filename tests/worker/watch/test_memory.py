"""Half an hour of a stream, faster than real time, with stand-ins at our ports: what is held does not grow with it."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.worker.watch.stream import EMPTY, FAKE, REAL, ToldReader, scanner
from tests.worker.watch.test_session import CURSOR_BYTES, go_on
from worker.pipeline import Scanner
from worker.report import Source
from worker.types import Json
from worker.watch.events import WatchEvent, WindowResult
from worker.watch.recent import Rhythm
from worker.watch.session import Watcher

MINUTE, HALF_HOUR = 60, 1800


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.fixture
def grey_scanner() -> Iterator[Scanner]:
    with scanner() as made:
        yield made


def test_after_the_first_minute_memory_stays_within_five_percent(traced: None, grey_scanner: Scanner, tmp_path: Path) -> None:
    held: dict[int, int] = {}
    largest = 0

    def on_window(window: WindowResult, events: Sequence[WatchEvent], cursor: Json) -> None:
        nonlocal largest
        if window.end_ms // 1000 % (5 * MINUTE) == 0 or window.end_ms == 1000 * MINUTE:
            gc.collect()
            held[window.end_ms // 1000] = tracemalloc.get_traced_memory()[0]
            largest = max(largest, len(json.dumps(cursor)))

    parts = [(10, REAL), (10, "not_served"), (10, FAKE), (10, EMPTY), (10, REAL), (10, 60)] * (HALF_HOUR // MINUTE)
    watcher = Watcher(
        open_reader=lambda position: ToldReader(parts, position),
        scanner=grey_scanner,
        folder=tmp_path,
        source=Source(kind="url", url="http://stream.test/"),
        rhythm=Rhythm(window_s=20, hop_s=10, fps=0.25),
        max_duration_s=1e6,
        max_behind_s=30,
    )
    assert watcher.run(go_on, on_window) == "ended"
    process_bytes = psutil.Process().memory_info().rss
    assert held[HALF_HOUR] - held[MINUTE] < 0.05 * process_bytes
    assert held[HALF_HOUR] - held[HALF_HOUR // 2] < 256 << 10
    assert largest < CURSOR_BYTES
    report = watcher.report()
    assert report.watch is not None
    assert report.watch.tracks_left_out > 0
    assert len(report.model_dump_json()) < 256 << 10
