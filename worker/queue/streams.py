"""Opens what watches a stream: the worker's own settings, with what a request asked for laid over them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from pydantic import ValidationError

from worker.errors import UnsupportedMedia
from worker.queue.naming import attribute
from worker.queue.requests import RequestOptions
from worker.queue.watching import OpenWatcher, StreamWatcher
from worker.settings import Settings, WatchSettings
from worker.types import Json
from worker.watch.cursor import Cursor


def opener(settings: Settings, scanner: Any, name: str, now_s: Callable[[], float]) -> OpenWatcher:
    """Watchers by that name (``worker.watch.build:open_watcher``), all over one warm scanner; imported when the first stream is
    to be watched. ``now_s``: Unix time by Redis, asked once for each watcher: whoever watches on may have another clock."""

    def open_watcher(url: str, options: RequestOptions, cursor: Json | None) -> AbstractContextManager[StreamWatcher]:
        asked = settings.model_copy(update={"watch": laid_over(settings.watch, options, cursor)})
        opened: AbstractContextManager[StreamWatcher] = attribute(name)(asked, scanner, url, unix_s=now_s(), cursor=cursor)
        return opened

    return open_watcher


def laid_over(default: WatchSettings, options: RequestOptions, cursor: Json | None = None) -> WatchSettings:
    """A window or hop alone takes the other along where they would not go together; a watch that is under way keeps its own. None
    is longer than the worker's own limit. Raises UnsupportedMedia for windows that are too long for the rate of looking."""
    window_s = options.window_s or max(default.window_s, options.hop_s or 0.0)
    asked = {
        "window_s": window_s,
        "hop_s": options.hop_s or min(default.hop_s, window_s),
        "fps": default.fps,
        "max_duration_s": min(options.max_duration_s or default.max_duration_s, default.max_duration_s),
    } | begun_with(cursor)
    try:
        return WatchSettings.model_validate(default.model_dump() | asked)
    except ValidationError as exc:
        raise UnsupportedMedia(
            f"windows of {asked['window_s']:g} s every {asked['hop_s']:g} s do not go with {asked['fps']:g} frames a second"
        ) from exc


def begun_with(cursor: Json | None) -> dict[str, float]:
    """Window, hop and rate of a watch that is under way; nothing of a cursor that cannot be read: its watcher refuses it."""
    try:
        window_s, hop_s, fps = Cursor.model_validate(cursor).rhythm
    except ValueError:
        return {}
    return {"window_s": window_s, "hop_s": hop_s, "fps": fps}
