"""Opens what watches a stream: the worker's own settings, with what a request asked for laid over them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from pydantic import ValidationError

from worker.errors import UnsupportedMedia
from worker.queue.naming import attribute
from worker.queue.requests import RequestOptions
from worker.queue.watching import OpenWatcher, StreamWatcher
from worker.settings import Settings, WatchSettings
from worker.types import Json


def opener(settings: Settings, scanner: Any, name: str) -> OpenWatcher:
    """Watchers by that name (``worker.watch.build:open_watcher``), all over one warm scanner; imported when the first stream is
    to be watched."""

    def open_watcher(url: str, options: RequestOptions, cursor: Json | None) -> AbstractContextManager[StreamWatcher]:
        asked = settings.model_copy(update={"watch": laid_over(settings.watch, options)})
        opened: AbstractContextManager[StreamWatcher] = attribute(name)(asked, scanner, url, cursor=cursor)
        return opened

    return open_watcher


def laid_over(default: WatchSettings, options: RequestOptions) -> WatchSettings:
    """A window or hop alone takes the other along where they would not go together. No watch is longer than the worker's own
    limit. Raises UnsupportedMedia for windows that are too long for the rate at which this worker looks."""
    window_s = options.window_s or max(default.window_s, options.hop_s or 0.0)
    asked = {
        "window_s": window_s,
        "hop_s": options.hop_s or min(default.hop_s, window_s),
        "max_duration_s": min(options.max_duration_s or default.max_duration_s, default.max_duration_s),
    }
    try:
        return WatchSettings.model_validate(default.model_dump() | asked)
    except ValidationError as exc:
        raise UnsupportedMedia(
            f"windows of {window_s:g} s every {asked['hop_s']:g} s do not go with {default.fps:g} frames a second"
        ) from exc
