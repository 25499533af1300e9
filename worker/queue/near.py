"""Near-identical media among an owner's own scans: which were there before, and how far away they are.

Keys below the namespace: ``near:OWNER`` (hash: the age that is written to) and ``near:OWNER:AGE:BBB`` (hash of postings, see
``scripts/near_add.lua``); in ``scan:ID`` the field ``phash``. A scan is found by the bands that its hashes share with others',
never by a look at all records. What it costs is bounded: so many scans of an owner are findable, the oldest go first, and all are
forgotten after ``keep_s``. A record that is gone is found no more, whatever still points to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from worker.phash import bands, distance, hashes_of, limit
from worker.queue.connection import scripts_of
from worker.queue.records import NEAR_AGES, Records
from worker.report import Report

LISTED: Final = 20
"""So many are named, the newest."""
CANDIDATES: Final = 64
"""So many of those that share most bands are compared; of media that were posted more often, these are the newest."""
MOST: Final = 1 << 18
"""Scans of one owner that can be found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A completed scan of near-identical media. ``distance``: mean bits of 64 that differ (``worker.phash``)."""

    id: str
    distance: float
    finished_ms: int


class NearIndex:
    """Written by the worker that completes a scan, read by whoever may see the owner's scans."""

    def __init__(self, records: Records, *, most: int = MOST) -> None:
        self._records, self._most = records, most
        self._add, self._find = scripts_of(records.redis, ("near_add", "near_find")).values()

    def add(self, report: Report) -> None:
        """Make a scan findable that was completed just now; one without a hash, or that is there already, changes nothing."""
        phash = report.media.phash if report.media else None
        if phash is None or not hashes_of(phash):
            return
        told = (self._records.namespace, report.id, report.owner or "", phash, self._records.terms.keep_s, NEAR_AGES)
        self._add(args=[*told, self._most // NEAR_AGES, *bands(hashes_of(phash))])

    def near(self, report: Report) -> list[Near]:
        """The scans of this one's owner on media near its own, without itself; the newest first. None where it has no hash."""
        hashes = hashes_of(report.media.phash or "") if report.media else ()
        if not hashes:
            return []
        args: list[str | int | bytes] = [self._records.namespace, report.owner or "", NEAR_AGES, CANDIDATES, *bands(hashes)]
        found: list[Near] = []
        for scan_id, phash, finished_ms in cast(list[tuple[bytes, bytes, bytes]], self._find(args=args)):
            theirs = hashes_of(phash.decode())
            away = distance(hashes, theirs)
            if away <= limit(hashes, theirs) and scan_id.decode() != report.id:
                found.append(Near(id=scan_id.decode(), distance=away, finished_ms=int(finished_ms)))
        return sorted(found, key=lambda near: (-near.finished_ms, near.id))[:LISTED]


def still_there(records: Records, reports: Sequence[Report]) -> list[Report]:
    """Reports that name none whose record is gone."""
    named = sorted({scan_id for report in reports for scan_id in report.near_duplicates})
    if not named:
        return list(reports)
    kept = {scan_id for scan_id, state in zip(named, records.states(named), strict=True) if state is not None}
    return [report.model_copy(update={"near_duplicates": _kept(report.near_duplicates, kept)}) for report in reports]


def _kept(scan_ids: Iterable[str], kept: set[str]) -> tuple[str, ...]:
    return tuple(scan_id for scan_id in scan_ids if scan_id in kept)
