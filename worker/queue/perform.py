"""One attempt at one scan, inside the scanning process: fetch, settle, scan, store; every step is told to the record."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import ResponseError

from worker.assemble import error_item
from worker.content import Content, full_told, read_content
from worker.errors import (
    FetchGone,
    FetchRateLimited,
    FetchTimeout,
    LeaseLost,
    ModelError,
    RedisDown,
    StorageError,
    StorageFull,
    UnreadableRecord,
    UnsupportedMedia,
    VeriframeError,
)
from worker.queue.away import AWAY, reason
from worker.queue.near import NearIndex
from worker.queue.record import Claim, Ended, Record, Settled, unpack
from worker.queue.records import PASSED_ON_S, Records
from worker.queue.reports import identified, taken_over
from worker.queue.requests import RequestOptions, RequestSource
from worker.report import ErrorItem, FrameItem, Report
from worker.telemetry.catalogue import LEFT, SCORE, STAGE
from worker.telemetry.port import SILENT, Telemetry
from worker.types import SamplingRequest, Strategy

if TYPE_CHECKING:
    from worker.queue.watching import Slices

log = logging.getLogger(__name__)

PROGRESS_S = 1.0
LONGEST_WITHOUT_ROOM_S = 1800
"""What no disk had room for in so long, and in ``OFTEN`` attempts on end, ends: each downloads it in vain."""
OFTEN = 10
"""Where much waits, it may take half an hour to meet the one full disk twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """Where a source's bytes are; ``content`` where they were hashed on the way."""

    path: Path
    content: Content | None = None


class Cancelled(VeriframeError):
    """Somebody asked for the running scan to be cancelled."""


OnBytes = Callable[[int, int | None], None]
"""Bytes here, and in all where that is known."""


class Output(Protocol):
    @property
    def report(self) -> Report: ...
    @property
    def crops(self) -> Mapping[str, bytes]: ...
    @property
    def frames(self) -> Sequence[FrameItem]: ...


class QueueScanner(Protocol):
    """What scans (``worker.pipeline.Scanner``)."""

    fingerprint: str

    @property
    def max_bytes(self) -> int: ...
    @property
    def request(self) -> SamplingRequest: ...

    def scan(
        self,
        path: Path,
        *,
        content: Content | None = None,
        on_progress: Callable[[Any], None] | None = None,
        request: SamplingRequest | None = None,
        explain: bool | None = None,
    ) -> Output: ...


class Fetcher(Protocol):
    """Brings a source's bytes here (``worker.queue.fetching.Sources``)."""

    def fetch(self, source: RequestSource, folder: Path, on_bytes: OnBytes, scan_id: str) -> AbstractContextManager[Brought]:
        """The bytes while the context is open; ``folder`` is this attempt's own. ``on_bytes`` is told what has come of a
        download, and may end it by an error. Raises FetchError, MediaError."""
        ...


class Keeper(Protocol):
    """Keeps what a report names (``worker.queue.fetching.Artifacts``)."""

    @property
    def keeps(self) -> bool:
        """False: nothing is ever kept."""
        ...

    def keep(self, report: Report, output: Output) -> Report:
        """The report as it can be kept: crops that are not retained are not named."""
        ...


@dataclass(slots=True, kw_only=True)
class Performer:
    """``perform`` never raises for a scan's sake; LeaseLost (another worker has it) and RedisDown are let through."""

    records: Records
    brisk: Records
    """Without patience, for what a scan does not wait for: words of progress, and that its media can be found again."""
    scanner: QueueScanner
    sources: Fetcher
    keeper: Keeper
    watches: Slices
    folder: Path
    hold_s: float = 0.0
    retain: Callable[[RequestSource, Path, str], None] = lambda source, path, sha256: None
    """Keeps what was scanned, where that is wanted: told the source, the file and its SHA-256 while it is there."""
    telemetry: Telemetry = SILENT
    _stages: set[str] = field(default_factory=set)
    """Those that this attempt has been in."""
    _near: NearIndex = field(init=False)
    _findable: NearIndex = field(init=False)
    _told_s: float = 0.0
    _has_inferred: bool = False
    _ended_early: LeaseLost | Cancelled | None = None

    def __post_init__(self) -> None:
        self._near, self._findable = NearIndex(self.records), NearIndex(self.brisk)

    def perform(self, claim: Claim) -> Ended:
        self._ended_early = None
        self._has_inferred = False
        self._stages.clear()
        try:
            record = self.records.get(claim.id)
            if record.request.kind == "watch":
                return self.watches.watch(claim, record)
            adopted = readable(claim, self.records.stored_report(claim.adopts) if claim.adopts else None)
            if adopted is not None:
                return self._complete(claim, record, taken_over(adopted))
            return self._scan(claim, record)
        except (LeaseLost, RedisDown):
            raise
        except Cancelled:
            return self.records.fail(claim, code="internal", message="cancelled", retryable=False)
        except (UnreadableRecord, StorageError) as exc:  # another worker's version may know it, its disk have room for it
            log.warning("scan %s is left to another worker: %s", claim.id, exc)
            self.telemetry.count(LEFT, exc.code)
            wait_s = PASSED_ON_S if isinstance(exc, UnreadableRecord) else self.records.terms.backoff_s
            full = (LONGEST_WITHOUT_ROOM_S, OFTEN) if isinstance(exc, StorageFull) else (0, 0)
            passed_on = self.records.pass_on(claim, str(exc), wait_s=wait_s, full=full)
            return dataclasses.replace(passed_on, code=exc.code)
        except ModelError as exc:  # a watch's: the scanner makes a report of a scan's
            return self._failed(claim, again(error_item(exc)))
        except VeriframeError as exc:
            if isinstance(exc, FetchRateLimited) and exc.is_turn:
                log.info("scan %s waits for its turn: %s", claim.id, exc)
                return dataclasses.replace(self.records.hand_back(claim, exc.retry_after_s or 0.0), code=exc.code)
            wait_s = getattr(exc, "retry_after_s", None) or 0.0
            # Its own code, not the wire's: ``internal`` there may be damage in Redis, which does this process no harm.
            return dataclasses.replace(self._failed(claim, error_item(exc), wait_s), code=exc.code)

    def _scan(self, claim: Claim, record: Record) -> Ended:
        started = time.monotonic()
        self._enter(claim, "fetch", 0.0)
        with contextlib.ExitStack() as stack:
            with full_told():
                scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder, prefix="scan-")))
            told = functools.partial(self._on_bytes, claim)
            fetching = self.sources.fetch(record.request.source, scratch, told, claim.id)
            brought = stack.enter_context(fetching)
            as_hashed = identity(brought)
            content = brought.content or read_content(brought.path, self.scanner.max_bytes)
            fetched_ms = round(1e3 * (time.monotonic() - started), 1)
            key = cache_key(content, self.scanner.fingerprint, record.request.options)
            settled, known = self._settle(claim, content, key, waits=False)
            if settled.follows:
                # Whoever makes the result may be of a path, which keeps nothing: these bytes are this worker's to keep now only.
                self._enter(claim, "store", 0.05)
                self.retain(record.request.source, brought.path, content.sha256)
                settled, known = self._settle(claim, content, key, waits=True)
            if settled.follows:
                log.info("scan %s waits for scan %s, which has the same bytes", claim.id, settled.follows)
            if settled.follows is not None:
                return Ended(how="following", ring=settled.ring)
            if known is not None:
                self._enter(claim, "store", 0.95)
                self.retain(record.request.source, brought.path, content.sha256)
                return self._complete(claim, record, taken_over(known))
            self._enter(claim, "decode", 0.05)
            output = self.scanner.scan(
                brought.path,
                content=content,
                on_progress=lambda progress: self._on_progress(claim, progress),
                request=sampling_request(self.scanner.request, record.request.options),
                explain=record.request.options.explain if self.keeper.keeps else False,
            )
            if identity(brought) != as_hashed:
                raise FetchTimeout("the file was changed while it was scanned")
            if self._ended_early is not None:
                raise self._ended_early
            report = output.report
            if report.error is not None:
                return self._failed(claim, again(report.error))
            self._enter(claim, "store", 0.95)  # from here on, what takes too long is the store, and no fault of the media
            self.retain(record.request.source, brought.path, content.sha256)
        if report.timings_ms is not None:
            timings = report.timings_ms.model_copy(update={"fetch": fetched_ms})
            report = report.model_copy(update={"timings_ms": timings})
        kept = self.keeper.keep(identified(report, record, claim), output)
        ended = self._complete(claim, record, kept)
        self._measure(report, time.monotonic() - started)
        return ended

    def _settle(self, claim: Claim, content: Content, key: str, *, waits: bool) -> tuple[Settled, Report | None]:
        """What is known of these bytes, and the stored result; one that cannot be read is dropped."""
        settled = self.records.settle(claim, content.sha256, key, waits=waits)
        known = readable(claim, settled.cached)
        if settled.cached is not None and known is None:
            settled = self.records.settle(claim, content.sha256, key, anew=True, waits=waits)
        return settled, known

    def _on_bytes(self, claim: Claim, received: int, total: int | None) -> None:
        """At most once a second. Being cancelled or overtaken ends the download, Redis's absence does not."""
        if time.monotonic() - self._told_s < PROGRESS_S:
            return
        try:
            self._enter(claim, "fetch", 0.05 * min(1.0, received / total) if total else 0.0, self.brisk, hold=False)
        except AWAY as exc:
            log.warning("scan %s: progress not told: %s", claim.id, reason(exc))

    def _on_progress(self, claim: Claim, progress: Any) -> None:
        """At most once a second, and when the first faces are looked at. A Redis that is away does not stop a scan; having been
        overtaken or cancelled does: the scanner makes a failed report of that, which is not looked at."""
        is_first = progress.stage == "infer" and not self._has_inferred
        if not is_first and time.monotonic() - self._told_s < PROGRESS_S:
            return
        self._has_inferred = self._has_inferred or is_first
        share = progress.decoded / progress.wanted if progress.wanted else 0.5 if progress.decoded else 0.0
        try:
            self._enter(claim, progress.stage, 0.05 + 0.9 * min(1.0, share), self.brisk, hold=is_first)
        except (LeaseLost, Cancelled) as exc:
            self._ended_early = exc
            raise
        except AWAY as exc:
            log.warning("scan %s: progress not told: %s", claim.id, reason(exc))

    def _enter(self, claim: Claim, stage: str, progress: float, records: Records | None = None, *, hold: bool = True) -> None:
        self._told_s = time.monotonic()
        if stage not in self._stages:
            self._stages.add(stage)
            log.info("scan %s: %s", claim.id, stage, extra={"stage": stage})
        if (records or self.records).enter(claim, stage, progress):
            raise Cancelled(f"scan {claim.id} is to be cancelled")
        if hold and self.hold_s:
            time.sleep(self.hold_s)

    def _measure(self, report: Report, total_s: float) -> None:
        """Of a scan that was done here."""
        if report.timings_ms is not None:
            for stage, took_ms in report.timings_ms.model_dump(exclude={"total"}, exclude_none=True).items():
                self.telemetry.observe(STAGE, took_ms / 1000, stage)
        self.telemetry.observe(STAGE, total_s, "total")
        if report.score is not None and report.media is not None:
            self.telemetry.observe(SCORE, report.score, report.media.kind)

    def _complete(self, claim: Claim, record: Record, report: Report) -> Ended:
        """Store the result, and what of this owner's it resembles; then it can be found itself. A death in between, or an index
        that cannot be read or written, costs that alone."""
        own = identified(report, record, claim)
        try:
            known = tuple(one.id for one in self._near.near(own))
        except ResponseError as exc:
            log.warning("scan %s: near-duplicates are not looked for (%s)", claim.id, exc)
            known = ()
        ended = self.records.finish(claim, own.model_copy(update={"near_duplicates": known}))
        try:
            self._findable.add(own)
        except AWAY as exc:
            log.warning("scan %s is not among those that are looked for: %s", claim.id, reason(exc))
        return ended

    def _failed(self, claim: Claim, error: ErrorItem, wait_s: float = 0.0) -> Ended:
        return self.records.fail(
            claim,
            code=error.code,
            message=error.message,
            retryable=error.retryable,
            sha256=error.sha256,
            wait_s=wait_s,
        )


def again(error: ErrorItem) -> ErrorItem:
    """An error of looking at frames, as it is told: where it is ``internal``, a bug or a card that failed, another try in a
    process of its own may help."""
    return error.model_copy(update={"retryable": error.retryable or error.code == "internal"})


def cache_key(content: Content, fingerprint: str, options: RequestOptions) -> str:
    """One result for the same bytes, model, settings and options."""
    told = json.dumps([content.sha256, fingerprint, options.model_dump(mode="json", exclude_none=True)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def sampling_request(default: SamplingRequest, options: RequestOptions) -> SamplingRequest:
    """The worker's own request with what this scan asked for. Raises UnsupportedMedia where, with its own, no part is left."""
    given = options.model_dump(exclude_none=True, exclude={"explain"})
    if options.sampling is not None:
        given["strategy"] = options.sampling
        if options.sampling is not Strategy.FPS:
            given["fps"] = None
    start_s, end_s = given.get("start_s", default.start_s), given.get("end_s", default.end_s)
    if end_s is not None and end_s <= start_s:
        raise UnsupportedMedia(f"no part from {start_s:g} s to {end_s:g} s: where one was not asked for, it is this worker's own")
    return dataclasses.replace(default, **given)


def readable(claim: Claim, stored: bytes | None) -> Report | None:
    """A stored result. One of another version's is none."""
    try:
        return unpack(stored) if stored is not None else None
    except UnreadableRecord as exc:
        log.warning("scan %s is done anew: %s", claim.id, exc)
        return None


def identity(brought: Brought) -> tuple[int, ...]:
    """Changes when somebody's file is replaced or written to; nobody else writes to what was fetched for this scan.

    Raises FetchGone, FetchTimeout.
    """
    if brought.content is not None:
        return ()
    try:
        state = brought.path.stat()
    except FileNotFoundError as exc:
        raise FetchGone("there is no such file any more") from exc
    except OSError as exc:
        raise FetchTimeout(f"the file cannot be looked at: {exc.strerror}") from exc
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
