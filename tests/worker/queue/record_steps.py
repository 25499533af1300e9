"""The steps of a scan's record that tests take, and its terms in them: short leases and hardly any back-off."""

from __future__ import annotations

from datetime import UTC, datetime

from worker.queue.record import Claim, Ended, Submission, Terms
from worker.queue.records import Records
from worker.queue.requests import RequestSource, ScanRequest
from worker.report import Report, Source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = Terms(lease_s=0.2, ring_again_s=0.0, follow_s=5, backoff_s=0.001, max_attempts=2)


def request(url: str = "https://example.org/a.mp4", **more: object) -> ScanRequest:
    return ScanRequest(source=RequestSource(url=url), **more)  # type: ignore[arg-type]


def report(scan_id: str, verdict: str = "fake", score: float = 0.9) -> Report:
    return Report.model_validate(
        {"id": scan_id, "source": Source(kind="url", url="https://example.org/a.mp4"), "created_at": NOW, "status": "completed"}
        | {"verdict": verdict, "score": score}
    )


def submitted(records: Records, owner: str = "acme", **more: object) -> str:
    (made,) = records.submit([Submission(request=request(**more), owner=owner)])
    if made.refusal is not None:
        raise made.refusal
    return made.id


def claimed(records: Records, scan_id: str) -> Claim:
    claim = records.claim(scan_id, "w1")
    assert isinstance(claim, Claim), claim
    return claim


def refused(records: Records, scan_id: str, worker: str) -> str:
    ended = records.claim(scan_id, worker)
    assert isinstance(ended, Ended), ended
    return ended.how


def wait_until_due(records: Records) -> None:
    """Until the back-off of a millisecond is over, on Redis's clock."""
    at = records.now_ms() + 5
    while records.now_ms() < at:
        pass
