"""Builds a watch from settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.report import Source
from worker.scratch import claim_folder
from worker.settings import Settings
from worker.source.live.open import LiveOptions, LiveSource
from worker.sources import build_http
from worker.types import Json
from worker.watch.recent import Rhythm
from worker.watch.session import PieceScanner, Watcher


@contextmanager
def open_watcher(
    settings: Settings, scanner: PieceScanner, target: str | Path, *, cursor: Json | None = None
) -> Iterator[Watcher]:
    """Watches ``target``, an address (str) or a growing file (Path), from ``cursor`` on.

    Raises ConfigError, FetchRefused (an address that we do not go to), UnsupportedMedia (RTMP, RTSP and the like).
    """
    watch = settings.watch
    source = build_live(settings)
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


def build_live(settings: Settings) -> LiveSource:
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
    return LiveSource(build_http(settings.model_copy(update={"source": once})), options)
