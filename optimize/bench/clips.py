"""Which clips are measured: those of a folder, evenly chosen, or the demo clips."""

from __future__ import annotations

from pathlib import Path

import av

from worker.errors import ConfigError

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts"})


def find_clips(folder: Path, count: int | None = None) -> list[Path]:
    """Video files below ``folder`` in a stable order; with ``count``, that many, evenly chosen."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    if count is None or len(found) <= count:
        return found
    return [found[(2 * i + 1) * len(found) // (2 * count)] for i in range(count)]


def chosen_clips(folder: Path | None, count: int | None = None) -> list[Path]:
    """``find_clips``, of the demo clips where there is no folder. Raises ConfigError where none is found."""
    from worker.demo import FOLDER

    clips = find_clips(folder or FOLDER, count)
    if not clips:
        raise ConfigError(f"no video files below {folder}")
    return clips


def lasts_s(path: Path) -> float:
    """0 where the container does not say. Raises ConfigError for what is no media."""
    try:
        with av.open(str(path)) as container:
            return float((container.duration or 0) / av.time_base)
    except av.FFmpegError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
