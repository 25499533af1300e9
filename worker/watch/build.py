"""Builds a watch from settings."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from worker.report import Source
from worker.scratch import claim_folder
from worker.settings import Settings
from worker.source.live.open import LiveOptions, LiveSource
from worker.sources import build_http
from worker.types import Json
from worker.watch.recent import Rhythm
from worker.watch.session import PieceScanner, Watcher

_PASSING: Final = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
"""Never set, and goes on while the machine sleeps."""


@contextmanager
def open_watcher(
    settings: Settings, scanner: PieceScanner, target: str | Path, *, unix_s: float, cursor: Json | None = None
) -> Iterator[Watcher]:
    """Watches ``target``, an address (str) or a growing file (Path), from ``cursor`` on. ``unix_s``: what time it is on the clock
    that all who watch it in turn go by.

    Raises ConfigError, FetchRefused (an address that we do not go to), UnsupportedMedia (RTMP, RTSP and the like).
    """
    watch = settings.watch
    source = build_live(settings, clock_from(unix_s))
    if isinstance(target, Path):
        open_reader, named = source.file(target), Source.of(target)
    else:
        open_reader, named = source.address(target), Source(kind="url", url=target)
    with claim_folder(settings.source.temp_dir) as folder:
        yield Watcher(
            open_reader=open_reader,
            scanner=scanner,
            folder=folder,
            source=named,
            rhythm=Rhythm(window_s=watch.window_s, hop_s=watch.hop_s, fps=watch.fps),
            max_duration_s=watch.max_duration_s,
            max_behind_s=watch.max_behind_s,
            evidence_per_track=min(settings.output.evidence_per_track, 3),
            cursor=cursor,
        )


def clock_from(unix_s: float) -> Callable[[], float]:
    """Goes on from that moment, whatever the machine's own clock is set to meanwhile."""
    begun_s = time.clock_gettime(_PASSING)
    return lambda: unix_s + time.clock_gettime(_PASSING) - begun_s


def build_live(settings: Settings, wall: Callable[[], float]) -> LiveSource:
    """Tries again by its own patience, so that requests do not."""
    watch, source = settings.watch, settings.source
    once = source.model_copy(update={"retries": 0, "patience_s": 0.0, "stall_s": watch.stall_s})
    options = LiveOptions(
        max_behind_s=watch.max_behind_s,
        give_up_s=watch.give_up_s,
        file_ends_s=watch.file_ends_s,
        cut_s=watch.piece_s,
        max_side_px=source.max_side_px,
        max_segments=source.max_segments,
    )
    return LiveSource(build_http(settings.model_copy(update={"source": once})), options, wall=wall)
