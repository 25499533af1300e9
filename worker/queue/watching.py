"""One slice of a watch, inside the scanning process: from the stored cursor on, window by window, until its time is over.

Whatever ends a slice in mid-window (a kill, an order to stop, a lost lease) costs no window: the next slice, here or elsewhere,
begins behind the last one that was stored.

A slice ends by itself before its parent would kill it (``queue.timeout_s``): by a window, or, where the stream gave none for so
long, as one whose stream is lost.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from worker.errors import EmptyMedia, FetchTimeout
from worker.patience import Patience
from worker.queue.away import AWAY, reason
from worker.queue.perform import Keeper
from worker.queue.record import Claim, Ended, Record
from worker.queue.records import Records
from worker.queue.reports import identified
from worker.queue.requests import RequestOptions
from worker.queue.watch_log import WatchLog
from worker.report import Evidence, FrameItem, Report
from worker.types import Json
from worker.watch.events import WatchEvent, WindowResult
from worker.watch.watched import crop_name

log = logging.getLogger(__name__)

TELL_S = 1.0
IN_TIME: Final = 0.8
"""Of the time after which a slice is killed: what is left is for the last piece, the report and its crops."""
AT_ONCE: Final = 0.1
"""Of the same, what passes between two looks at the clock counts for so much at most, or for ``A_PIECE`` times what a decoder may
take: more than a piece takes to look at, or the slice would be killed before it is late by its own clock."""
A_PIECE: Final = 1.25


class StreamWatcher(Protocol):
    """Watches one stream from a cursor on (``worker.watch.session.Watcher``)."""

    def run(
        self,
        stop: Callable[[], bool],
        on_window: Callable[[WindowResult, Sequence[WatchEvent], Json], None],
    ) -> str:
        """``ended``: nothing more will come, and the last window was told; otherwise ``stop`` said so. Raises FetchError,
        MediaError, DecodeError, and what ``on_window`` raises."""
        ...

    def finish(
        self, ending: Any, on_window: Callable[[WindowResult, Sequence[WatchEvent], Json], None], code: str | None = None
    ) -> None:
        """Tell the last window and ``stream_ended``; nothing where the stream has ended. ``code``: why it is lost."""
        ...

    def report(self) -> Report:
        """Of all that was watched so far. Raises EmptyMedia where nothing was seen."""
        ...

    def crops(self, report: Report) -> Mapping[str, bytes]:
        """Evidence crops as JPEG bytes, by the names in ``report``."""
        ...


OpenWatcher = Callable[[str, RequestOptions, Json | None], AbstractContextManager[StreamWatcher]]
"""Watches an address, from a cursor on; None: from where the stream is now. Raises FetchError, MediaError, ConfigError,
UnreadableRecord for a cursor that another version may be able to read, DamagedRecord for one that none can."""


@dataclass(slots=True)
class Order:
    """Set by a signal handler: the worker is going away. A plain flag, since a handler must take no lock."""

    is_given: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """An ended watch as a ``Keeper`` takes it."""

    report: Report
    crops: Mapping[str, bytes]

    @property
    def frames(self) -> tuple[FrameItem, ...]:
        return self.report.frames


@dataclass(slots=True, kw_only=True)
class Slices:
    """``slice_s``: after so long, a watch goes back to the queue at its next window, for whoever waits. ``timeout_s``: a slice
    that takes longer is killed. ``decode_s``: so long a decoder may take for a piece. ``max_duration_s``: the worker's own limit,
    for progress. ``order``: to stop at once. ``brisk``: without patience, for words of progress, which no stream waits for."""

    records: Records
    brisk: Records
    log: WatchLog
    open_watcher: OpenWatcher
    keeper: Keeper
    slice_s: float
    timeout_s: float
    decode_s: float
    max_duration_s: float
    order: Order = field(default_factory=Order)
    clock: Callable[[], float] = time.monotonic

    def watch(self, claim: Claim, record: Record) -> Ended:
        """Raises LeaseLost, RedisDown, DamagedRecord, and what the watcher does where nothing could be watched at all."""
        self.order.is_given = False  # it was for an earlier slice; one that is missed is given again
        options, url = record.request.options, record.request.source.url or ""
        longest_s = min(options.max_duration_s or self.max_duration_s, self.max_duration_s)
        most_s = max(AT_ONCE * self.timeout_s, A_PIECE * self.decode_s)
        patience = Patience(IN_TIME * self.timeout_s, most_s=most_s, clock=self.clock)
        one = _Slice(
            brisk=self.brisk, log=self.log, claim=claim, record=record, order=self.order, longest_s=longest_s,
            until_s=self.clock() + self.slice_s, patience=patience, progress=record.progress, is_unwanted=record.cancel,
            clock=self.clock,
        )  # fmt: skip
        with self.open_watcher(url, options, self.log.cursor(claim.id)) as watcher:
            if not one.is_unwanted and watcher.run(one.is_over, one.store) != "ended" and not one.is_unwanted:
                if not one.is_late:
                    self._keep_crops(claim, record, watcher)
                    return self.records.hand_back(claim)
                self._lose(one, watcher)
            watcher.finish("stopped", one.store)
            report = self._kept(claim, record, watcher)
        return self.records.finish(claim, with_crops(report, self.log.crops(claim.id)))

    def _lose(self, one: _Slice, watcher: StreamWatcher) -> None:
        """A stream without a window for the whole of a slice. Raises FetchTimeout where there was nothing at all to look at."""
        try:
            watcher.report()
        except EmptyMedia as exc:
            raise FetchTimeout(f"nothing of the stream came within {IN_TIME * self.timeout_s:g} s") from exc
        watcher.finish("lost", one.store, FetchTimeout.code)

    def _keep_crops(self, claim: Claim, record: Record, watcher: StreamWatcher) -> None:
        """Those that this process has: the next one will not."""
        if not self.keeper.keeps:
            return
        with contextlib.suppress(EmptyMedia):
            self.log.note_crops(claim, crops_of(self._kept(claim, record, watcher)))

    def _kept(self, claim: Claim, record: Record, watcher: StreamWatcher) -> Report:
        report = watcher.report()
        watched = Watched(report=identified(report, record, claim), crops=watcher.crops(report))
        return self.keeper.keep(watched.report, watched)


def crops_of(report: Report) -> set[str]:
    return {one.crop for track in report.tracks for one in track.evidence if one.crop is not None}


def with_crops(report: Report, kept: Collection[str]) -> Report:
    """Evidence of earlier slices with its crops: what a crop is called follows from track and time."""

    def named(track: int, one: Evidence) -> Evidence:
        name = crop_name(track, one.t_ms / 1e3)
        return one.model_copy(update={"crop": name}) if one.crop is None and name in kept else one

    tracks = tuple(
        track.model_copy(update={"evidence": tuple(named(track.id, one) for one in track.evidence)}) for track in report.tracks
    )
    return report.model_copy(update={"tracks": tracks})


@dataclass(slots=True, kw_only=True)
class _Slice:
    """What a running slice knows of itself; times on the monotonic clock."""

    brisk: Records
    log: WatchLog
    claim: Claim
    record: Record
    order: Order
    longest_s: float
    until_s: float
    patience: Patience
    """Until it would not end in time otherwise."""
    progress: float
    is_unwanted: bool
    clock: Callable[[], float]
    is_late: bool = False
    """It was over before another window came."""
    _is_at_window: bool = False
    _told_s: float = 0.0

    def is_over(self) -> bool:
        """Asked several times a second. A slice is over at a window, so that a stream that stands still is waited for as long as
        its reader has patience, and not anew in each slice; or when it would not end in time otherwise."""
        is_at_window, self._is_at_window = self._is_at_window, False
        now, is_late = self.clock(), self.patience.spend() <= 0
        if now - self._told_s >= TELL_S:
            self._told_s = now
            self._tell()
        if self.is_unwanted or self.order.is_given or (is_at_window and (now >= self.until_s or is_late)):
            return True
        self.is_late = is_late
        return is_late

    def store(self, window: WindowResult, events: Sequence[WatchEvent], cursor: Json) -> None:
        self._is_at_window = True
        self.progress = min(1.0, window.end_ms / 1e3 / self.longest_s)
        if self.log.store(self.claim, self.record, window, events, cursor, self.progress):
            self.is_unwanted = True

    def _tell(self) -> None:
        """Being cancelled ends the watch; Redis's absence does not, until there is a window to store."""
        try:
            self.is_unwanted = self.brisk.enter(self.claim, "watch", self.progress) or self.is_unwanted
        except AWAY as exc:
            log.warning("scan %s: progress not told: %s", self.claim.id, reason(exc))
