"""One stream for the command line: watched until it ends, a signal says so or nobody can be told any more; always a report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress

from worker.errors import ConfigError, ModelError, VeriframeError
from worker.interrupts import Interrupts
from worker.jobs import failed, sourced
from worker.report import Report
from worker.scratch import sweep
from worker.settings import Settings
from worker.source.files import Item
from worker.stdio import INTERNAL
from worker.types import Json
from worker.watch.build import open_watcher
from worker.watch.events import WatchEvent, WindowResult
from worker.watch.session import OnWindow, PieceScanner, Watcher
from worker.watch.show import Show

log = logging.getLogger(__name__)


def watch_item(
    settings: Settings, build: Callable[[Settings], AbstractContextManager[PieceScanner]], item: Item, show: Show
) -> tuple[Report, Mapping[str, bytes], int]:
    """The report, its evidence crops, and the exit code of the signal or of the lost output that ended it (0: none).

    Raises ConfigError, ModelError; whatever else is wrong is in the report.
    """

    interrupts, telling = Interrupts(on_kill=lambda: None), _Telling(show)
    done: list[tuple[Report, Mapping[str, bytes]]] = []
    with interrupts, suppress(KeyboardInterrupt), interrupts.held():
        done.append(_watched(settings, build, item, telling, lambda: bool(interrupts.exit_code or telling.exit_code)))
    return *done[0], interrupts.exit_code or telling.exit_code


class _Telling:
    """Shows windows. ``exit_code``: not 0 once standard output takes nothing any more (``worker.stdio``), which is to stop the
    watch; what it has seen is still to be kept."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self.exit_code = 0

    def __call__(self, window: WindowResult, events: Sequence[WatchEvent], cursor: Json) -> None:
        try:
            self._show.window(window, events)
        except SystemExit as exc:
            self.exit_code = exc.code if isinstance(exc.code, int) else INTERNAL


def _watched(
    settings: Settings,
    build: Callable[[Settings], AbstractContextManager[PieceScanner]],
    item: Item,
    on_window: OnWindow,
    stop: Callable[[], bool],
) -> tuple[Report, Mapping[str, bytes]]:
    for left in sweep(settings.source.temp_dir):
        log.info("removed what a process that is gone has left: %s", left.name)
    try:
        with build(settings) as scanner, _opened(settings, scanner, item) as watcher:
            try:
                if watcher.run(stop, on_window) == "stopped":
                    watcher.finish("stopped", on_window)
            except (ConfigError, ModelError):
                raise
            except VeriframeError as exc:  # a full disk, say: what was seen until then is not lost with it
                watcher.lose(exc, on_window)
            report = watcher.report()
            return report, watcher.crops(report)
    except (ConfigError, ModelError):
        raise
    except VeriframeError as exc:
        return sourced(failed(item.path, exc), item).model_copy(update={"kind": "watch"}), {}


def _opened(settings: Settings, scanner: PieceScanner, item: Item) -> AbstractContextManager[Watcher]:
    return open_watcher(settings, scanner, item.path if item.url is None else item.url, unix_s=time.time())
