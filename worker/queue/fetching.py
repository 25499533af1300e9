"""Where a scan's bytes come from and what of them is kept: an address, a file below a media root, an upload."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.artifacts import ArtifactStore
from worker.content import Content
from worker.errors import StorageError
from worker.queue.perform import Brought, OnBytes, Output
from worker.queue.reports import without_crops
from worker.queue.requests import RequestSource
from worker.report import Report
from worker.source.fetch import UrlSource
from worker.source.roots import resolve_below

log = logging.getLogger(__name__)


FRAMES = "frames.jsonl"
"""Artefact of a scan: every looked-at frame, a line each, where the report holds at most 256."""


def upload_key(upload_id: str) -> str:
    return f"uploads/{upload_id}"


def artifacts_key(scan_id: str) -> str:
    return f"scans/{scan_id}"


def artifact_key(scan_id: str, name: str) -> str:
    return f"{artifacts_key(scan_id)}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Brings a source's bytes here."""

    urls: UrlSource
    roots: Sequence[Path]
    store: ArtifactStore

    @contextlib.contextmanager
    def fetch(self, source: RequestSource, folder: Path, on_bytes: OnBytes | None = None, scan_id: str = "") -> Iterator[Brought]:
        """The bytes while the context is open. Raises FetchError, MediaError."""
        if source.path is not None:
            yield Brought(path=resolve_below(source.path, self.roots))
        elif source.url is not None:
            got = self.urls.fetch(source.url, folder, on_bytes, scan_id)
            yield Brought(path=got.path, content=Content(sha256=got.sha256, size_bytes=got.size_bytes))
        else:
            path = folder / "upload"
            content = self.store.get(upload_key(source.upload or ""), path)
            yield Brought(path=path, content=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifacts:
    """Keeps evidence crops and the full list of frames behind an ``ArtifactStore`` for ``keep_s`` seconds; by default nothing.
    ``clock`` gives Unix time, and is to be the one that the store is swept by."""

    store: ArtifactStore
    keep_s: float
    clock: Callable[[], float] = time.time

    @property
    def keeps(self) -> bool:
        return self.keep_s > 0 and self.store.retains

    def keep(self, report: Report, output: Output) -> Report:
        """The report with the crops that are kept; a crop that is not retained is not named. A store that is full or down costs a
        finished scan its crops, not its verdict."""
        if not self.keeps:
            return without_crops(report)
        until = self.clock() + self.keep_s
        try:
            for name, jpeg in output.crops.items():
                self.store.put(artifact_key(report.id, name), jpeg, expires_at=until)
            lines = "".join(f"{frame.model_dump_json()}\n" for frame in output.frames)
            self.store.put(artifact_key(report.id, FRAMES), lines.encode(), expires_at=until)
        except StorageError as exc:
            log.warning("scan %s: crops are not kept (%s)", report.id, exc.code)
            return without_crops(report)
        return report
