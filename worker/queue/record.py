"""One scan as the queue knows it: its record, and what is handed in and given back around it. Nothing here talks to Redis."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from worker.errors import LeaseLost, NoSuchScan, QueueError, UnreadableRecord
from worker.queue.requests import ScanRequest
from worker.report import Report, new_id

State = Literal["queued", "running", "completed", "failed", "cancelled"]
FINAL = frozenset({"completed", "failed", "cancelled"})
YEAR_10000_MS = 253_402_300_800_000
"""No time that a datetime can be."""
GLANCED = ("state", "owner", "external_id", "dead", "sha256", "summary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long things are kept and tried; see ``QueueSettings``."""

    lease_s: float = 8
    ring_again_s: float = 10
    follow_s: float = 30
    max_attempts: int = 3
    backoff_s: float = 2
    backoff_max_s: float = 300
    keep_s: int = 7 * 86400
    cache_s: int = 7 * 86400
    idempotency_s: int = 86400
    max_backlog: int = 100_000
    open_scans: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request on its way into the queue; the id is the caller's, so that a lost answer may be asked for again."""

    request: ScanRequest
    owner: str
    id: str = field(default_factory=new_id)
    retry_of: str | None = None

    def body_sha256(self) -> str:
        """What its idempotency key stands for: the request, and of a retry the scan that it repeats as well."""
        body = self.request.body_sha256()
        return body if self.retry_of is None else hashlib.sha256(f"{body} {self.retry_of}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """``created`` False: an idempotency key named an older scan, or there is a ``refusal`` (Conflict, QueueFull; NoSuchScan:
    the scan ``retry_of`` was forgotten)."""

    id: str
    created: bool
    refusal: QueueError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An attempt that this worker holds. ``adopts``: the scan that this one followed, and whose result it takes over. Of a watch,
    an attempt is one slice. ``worker``: who renews it."""

    id: str
    attempt: int
    adopts: str | None = None
    is_watch: bool = False
    worker: str = ""

    def refuse_lost(self, answer: bytes) -> None:
        """Raises LeaseLost where a script's answer is that another attempt has taken over."""
        if answer == b"lost":
            raise LeaseLost(f"scan {self.id}: attempt {self.attempt} is over")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What is known of these bytes: a stored report, another scan that makes it, or (neither) this one is to make it."""

    cached: bytes | None = field(default=None, repr=False)
    follows: str | None = None
    ring: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt or scan ended, for which error, and the scans whose doorbells should ring now."""

    how: str
    ring: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A scan as Redis holds it; times in milliseconds since 1970."""

    id: str
    owner: str
    request: ScanRequest
    state: State
    attempt: int
    tries: int
    created_ms: int
    started_ms: int | None
    finished_ms: int | None
    claimed_ms: int | None
    not_before_ms: int
    progress: float
    stage: str
    worker: str
    retry_of: str | None
    purged: tuple[str, ...]
    """Scans made again of this one that were purged: their ids are used up."""
    leader: str | None
    sha256: str | None
    cache_key: str | None
    dead: bool
    cancel: bool
    error: dict[str, Any] | None
    summary: dict[str, Any] | None
    """Of a result, the model's verdict and score, so that lists need not read the report to pass it over; and what else its
    callback tells."""
    report: bytes | None = field(repr=False)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """Of a record what lists are filtered by. ``state`` may be none of ours, and ``summary`` is None also where it is no JSON:
    whoever reads the whole record is told."""

    id: str
    owner: str
    state: str
    external_id: str | None
    dead: bool
    sha256: str | None
    summary: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """Which ended scans are to be forgotten. ``before_ms``: ended before then, on Redis's clock; ``owner`` None: whosever."""

    states: frozenset[str] = FINAL
    before_ms: int | None = None
    dead_only: bool = False
    owner: str | None = None


def pack(report: Report) -> bytes:
    """A report as it is stored: JSON, deflated (frames and boxes shrink to a fifth)."""
    return zlib.compress(report.model_dump_json().encode(), 3)


def unpack(stored: bytes) -> Report:
    """Without fields that only a newer version knows. Raises UnreadableRecord."""
    try:
        return Report.model_validate_json(zlib.decompress(stored), extra="ignore")
    except (zlib.error, ValueError) as exc:
        raise UnreadableRecord("a report was stored by another version of veriframe") from exc


def read_record(stored: dict[bytes, bytes]) -> Record:
    """Raises UnreadableRecord."""
    try:
        return _read(stored)
    except (ValueError, KeyError, OverflowError, RecursionError) as exc:
        name = stored.get(b"id", b"?").decode("ascii", "replace")
        raise UnreadableRecord(f"scan {name} was stored by another version of veriframe") from exc


def found_record(scan_id: str, stored: dict[bytes, bytes], owner: str | None) -> Record | QueueError:
    """What is stored of a scan; NoSuchScan: nothing, or it is another's than ``owner``; UnreadableRecord."""
    if not stored.get(b"state") or (owner is not None and stored.get(b"owner") != owner.encode()):
        return NoSuchScan(f"no scan {scan_id}")
    try:
        return read_record(stored)
    except UnreadableRecord as exc:
        return exc


def glance_of(record: Record) -> Glance:
    return Glance(
        id=record.id,
        owner=record.owner,
        state=record.state,
        external_id=record.request.external_id,
        dead=record.dead,
        sha256=record.sha256,
        summary=record.summary,
    )


def read_glance(scan_id: str, stored: Sequence[bytes | None]) -> Glance:
    """By the fields ``GLANCED``."""
    state, owner, external_id, dead, sha256, summary = ((value or b"").decode(errors="replace") for value in stored)
    try:
        told = json.loads(summary or "null")
    except (ValueError, RecursionError):
        told = None
    return Glance(
        id=scan_id,
        owner=owner,
        state=state,
        external_id=external_id or None,
        dead=dead == "1",
        sha256=sha256 or None,
        summary=told if isinstance(told, dict) else None,
    )


def _read(stored: dict[bytes, bytes]) -> Record:
    def text(name: str) -> str:
        return stored.get(name.encode(), b"").decode()

    def moment(name: str) -> int | None:
        return _time_ms(int(text(name))) if text(name) else None

    def told(name: str) -> dict[str, Any] | None:
        found = json.loads(text(name) or "null")
        if not (found is None or isinstance(found, dict)):
            raise ValueError(f"{name} is no object")
        return found

    state = text("state")
    if state not in get_args(State):
        raise ValueError(f"state {state!r}")

    return Record(
        id=text("id"),
        owner=text("owner"),
        request=ScanRequest.model_validate_json(stored[b"request"]),
        state=cast(State, state),
        attempt=int(text("attempt")),
        tries=int(text("tries")),
        created_ms=_time_ms(int(text("created_ms"))),
        started_ms=moment("started_ms"),
        finished_ms=moment("finished_ms"),
        claimed_ms=moment("claimed_ms"),
        not_before_ms=int(float(text("not_before_ms") or 0)),
        progress=progress_of(stored.get(b"progress")),
        stage=text("stage"),
        worker=text("worker"),
        retry_of=text("retry_of") or None,
        purged=tuple(text("purged").split()),
        leader=text("leader") or None,
        sha256=text("sha256") or None,
        cache_key=text("cache_key") or None,
        dead=text("dead") == "1",
        cancel=text("cancel") == "1",
        error=told("error"),
        summary=told("summary"),
        report=stored.get(b"report") or None,
    )


def _time_ms(ms: int) -> int:
    """Raises ValueError for one that is no date."""
    if not 0 <= ms < YEAR_10000_MS:
        raise ValueError(f"time {ms}")
    return ms


def progress_of(stored: bytes | None) -> float:
    """0 where it is none: it is told for people's sake, and nothing goes by it."""
    try:
        progress = float(stored or 0)
    except ValueError:
        return 0.0
    return progress if 0 <= progress <= 1 else 0.0
