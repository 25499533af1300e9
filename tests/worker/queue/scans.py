"""Drives scans without a worker: claims them and writes what a worker would."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.worker.queue.record_steps import request
from worker.queue.desk import Desk
from worker.queue.record import Claim
from worker.queue.records import Records
from worker.queue.watch_log import WatchLog
from worker.report import Model, Report, Sampling, Source
from worker.types import Label
from worker.watch.events import WatchEvent, WindowResult

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD_MODEL, NEW_MODEL = "0" * 63 + "a", "0" * 63 + "b"


def model(sha256: str) -> Model:
    return Model(name="m", version="1", sha256=sha256, licence="Apache-2.0", backend="onnxruntime")


def report(scan_id: str, verdict: str = "fake", by_model: str = OLD_MODEL) -> Report:
    return Report.model_validate(
        {"id": scan_id, "source": Source(kind="url", url="https://example.org/a.mp4"), "created_at": NOW, "status": "completed"}
        | {"verdict": verdict, "score": 0.9 if verdict == "fake" else 0.1, "model": model(by_model)}
    )


def sampling(start_s: float, end_s: float) -> Sampling:
    looked_at = {"requested": 32, "decoded": 32, "with_face": 32, "strategy": "uniform", "max_gap_s": 0.5, "stopped_early": False}
    return Sampling.model_validate(looked_at | {"start_s": start_s, "end_s": end_s})


def submit(desk: Desk, url: str = "https://example.org/a.mp4", owner: str = "acme", **more: object) -> str:
    return desk.submit_one(request(url, **more), owner).id


def watched(desk: Desk, windows: int, **more: object) -> str:
    """A watch that has told an event in each of so many windows, and waits for its next slice."""
    scan_id = submit(desk, "https://example.org/live.m3u8", kind="watch", **more)
    claimed, log = claim(desk.records, scan_id), WatchLog(desk.records.redis, desk.records.namespace)
    for number in range(windows):
        window = WindowResult(number=number, start_ms=0, end_ms=1, verdict=Label.REAL, frames=1, with_face=1)
        event = WatchEvent(kind="track_seen", number=number, window=number, t_ms=number, track=number)
        log.store(claimed, desk.record(scan_id, None), window, [event], {"n": number}, 0.5)
    desk.records.hand_back(claimed)
    return scan_id


def claim(records: Records, scan_id: str) -> Claim:
    claimed = records.claim(scan_id, "w1")
    assert isinstance(claimed, Claim), claimed
    return claimed


def complete(
    records: Records,
    scan_id: str,
    sha256: str = "ab" * 32,
    verdict: str = "fake",
    by_model: str = OLD_MODEL,
    part_s: tuple[float, float] | None = None,
) -> None:
    """As a worker that found no earlier result. ``part_s``: which part of a video was scanned alone."""
    claimed = claim(records, scan_id)
    records.settle(claimed, sha256, f"{sha256}:{by_model}:{scan_id}")
    made = report(scan_id, verdict, by_model)
    records.finish(claimed, made if part_s is None else made.model_copy(update={"sampling": sampling(*part_s)}))


def fail(records: Records, scan_id: str, *, dead: bool = False) -> None:
    claimed = claim(records, scan_id)
    code = "internal" if dead else "corrupt"
    records.fail(claimed, code=code, message="broken", retryable=dead)
