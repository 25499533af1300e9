"""One item's work in whichever process does it: compare with an earlier run, or scan."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from worker.assemble import failed_report
from worker.content import Content
from worker.engine import EngineFailed
from worker.exhausted import log_failure
from worker.report import Report, Source, new_id, now, shown_path
from worker.resume import State, content_of, is_unchanged
from worker.settings import Settings
from worker.source.files import Item, without_userinfo

log = logging.getLogger(__name__)


class ScanOutput(Protocol):
    """What a scanner gives back (``worker.pipeline.ScanResult``)."""

    @property
    def report(self) -> Report: ...

    @property
    def crops(self) -> Mapping[str, bytes]: ...


class ItemScanner(Protocol):
    """What scans items, on several threads at once (``worker.pipeline.Scanner``)."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def max_bytes(self) -> int: ...

    def scan(
        self, path: Path, *, content: Content | None = None, on_progress: Callable[[Any], None] | None = None
    ) -> ScanOutput: ...


BuildScanner = Callable[[Settings], AbstractContextManager[ItemScanner]]
"""Opens a scanner; for several workers a module-level function, which their processes import by name. Raises ConfigError or
ModelError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An item to scan. ``keep_state``: hash its bytes for a later ``--resume``; ``state``: what an earlier run left."""

    item: Item
    keep_state: bool = False
    state: State | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished task. ``report`` None: nothing changed since ``task.state`` was stored."""

    task: Task
    report: Report | None
    crops: Mapping[str, bytes] = field(default_factory=dict)
    content: Content | None = None
    fingerprint: str = ""


def do(task: Task, scanner: ItemScanner, on_progress: Callable[[Any], None] | None = None) -> Outcome:
    """Do one task. An exception of the scanner's is a bug in it: logged, and the item's report says ``internal``.

    Raises why the scanner's classifier cannot be opened, where that shows only now.
    """
    path = task.item.path
    try:
        if task.state is not None and is_unchanged(path, task.state, scanner.fingerprint, scanner.max_bytes):
            return Outcome(task=task, report=None, fingerprint=scanner.fingerprint)
        content = content_of(path, scanner.max_bytes) if task.keep_state else None
        result = scanner.scan(path, content=content, on_progress=on_progress)
        return Outcome(task=task, report=result.report, crops=result.crops, content=content, fingerprint=scanner.fingerprint)
    except EngineFailed as exc:
        why = exc.__cause__ or exc
    except Exception as exc:  # noqa: BLE001 - logged
        log_failure(log, "an item could not be scanned", exc)
        return Outcome(task=task, report=failed(path, exc))
    raise why  # out here it does not hold what it was raised over: frames


def failed(path: Path, error: Exception) -> Report:
    """The report of an item that no scanner looked at."""
    moment = now()
    job = Report(id=new_id(), source=Source.of(path), created_at=moment, started_at=moment, status="running", progress=0.0)
    return failed_report(job, error)


def sourced(report: Report, item: Item) -> Report:
    """The report with what the user named as its source, where that is an address; without the name and password in it, and with
    bytes that are not UTF-8, of which JSON holds none, as in paths."""
    if item.url is None:
        return report
    return report.model_copy(update={"source": Source(kind="url", url=shown_path(without_userinfo(item.url, "***@")))})
