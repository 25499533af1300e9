"""Scans of addresses on the command line: the bytes are fetched to a private folder, scanned, and deleted."""

from __future__ import annotations

import functools
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.content import Content
from worker.errors import VeriframeError
from worker.jobs import BuildScanner, ItemScanner, ScanOutput, failed
from worker.report import Report
from worker.scratch import claim_folder, sweep
from worker.settings import Settings
from worker.source.fetch import UrlSource
from worker.source.files import Item
from worker.sources import build_source

log = logging.getLogger(__name__)

FETCH_SHARE = 0.5
"""The part of an address's progress that fetching is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedOutput:
    """What became of one address (``worker.jobs.ScanOutput``)."""

    report: Report
    crops: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Progress over fetching and scanning (``worker.progress.FrameProgress``)."""

    decoded: int
    wanted: int | None


class FetchingScanner:
    """Scans paths as ``scanner`` does; where a path stands for an address, what is fetched from there.

    A fetched file lies in a folder of its own below ``folder`` and is gone when its scan ends, however it ends.
    """

    def __init__(self, scanner: ItemScanner, source: UrlSource, folder: Path, urls: Mapping[Path, str]) -> None:
        self._scanner, self._source, self._folder, self._urls = scanner, source, folder, urls

    @property
    def fingerprint(self) -> str:
        return self._scanner.fingerprint

    @property
    def max_bytes(self) -> int:
        return self._scanner.max_bytes

    def scan(self, path: Path, *, content: Content | None = None, on_progress: Callable[[Any], None] | None = None) -> ScanOutput:
        url = self._urls.get(path)
        if url is None:
            return self._scanner.scan(path, content=content, on_progress=on_progress)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="fetch-") as folder:
            try:
                fetched = self._source.fetch(url, Path(folder), _while_fetching(on_progress))
            except VeriframeError as exc:
                return FetchedOutput(report=failed(path, exc))
            fetched_ms = round(1e3 * (time.monotonic() - started), 1)
            content = Content(sha256=fetched.sha256, size_bytes=fetched.size_bytes)
            output = self._scanner.scan(fetched.path, content=content, on_progress=_while_scanning(on_progress))
        return FetchedOutput(report=_timed(output.report, fetched_ms), crops=output.crops)


def fetching(build: BuildScanner, items: Sequence[Item]) -> BuildScanner:
    """What opens a scanner that can scan the addresses among ``items`` as well."""
    urls = {item.path: item.url for item in items if item.url is not None}
    return functools.partial(_open, build, urls) if urls else build


@contextmanager
def _open(build: BuildScanner, urls: Mapping[Path, str], settings: Settings) -> Iterator[ItemScanner]:
    for left in sweep(settings.source.temp_dir):
        log.info("removed what a process that is gone has left: %s", left.name)
    source = build_source(settings)
    with claim_folder(settings.source.temp_dir) as folder, build(settings) as scanner:
        yield FetchingScanner(scanner, source, folder, urls)


def _timed(report: Report, fetched_ms: float) -> Report:
    if report.timings_ms is None:
        return report
    return report.model_copy(update={"timings_ms": report.timings_ms.model_copy(update={"fetch": fetched_ms})})


def _while_fetching(on_progress: Callable[[Any], None] | None) -> Callable[[int, int | None], None] | None:
    if on_progress is None:
        return None

    def tell(received: int, total: int | None) -> None:
        if total:
            on_progress(Share(decoded=received, wanted=round(total / FETCH_SHARE)))

    return tell


def _while_scanning(on_progress: Callable[[Any], None] | None) -> Callable[[Any], None] | None:
    if on_progress is None:
        return None

    def tell(progress: Any) -> None:
        scanned = progress.decoded / progress.wanted if progress.wanted else 0.0
        on_progress(Share(decoded=round(1000 * (FETCH_SHARE + (1 - FETCH_SHARE) * scanned)), wanted=1000))

    return tell
