"""What becomes of scans, told once for all who end them: counted, and a line of the log."""

from __future__ import annotations

import logging

from worker.queue.record import Claim, Ended
from worker.report import Report
from worker.telemetry.catalogue import DEAD_LETTERS, NONE, RETRIES, SCANS
from worker.telemetry.port import Telemetry

log = logging.getLogger(__name__)


def tell_finished(telemetry: Telemetry, claim: Claim, report: Report) -> None:
    verdict = str(report.verdict or NONE)
    telemetry.count(SCANS, verdict, NONE)
    told = {"scan_id": claim.id, "attempt": claim.attempt, "state": "completed", "verdict": verdict}
    log.info("scan %s completed: %s", claim.id, verdict, extra=told)


def tell_failed(telemetry: Telemetry, scan_id: str, ended: Ended, code: str) -> None:
    """``ended.how``: ``again``, ``failed``, ``dead``, ``cancelled``; anything else is no end of an attempt."""
    if ended.how == "again":
        telemetry.count(RETRIES, code)
    elif ended.how == "cancelled":
        telemetry.count(SCANS, NONE, NONE)
        code = NONE
    elif ended.how in ("failed", "dead"):
        telemetry.count(SCANS, NONE, code)
        if ended.how == "dead":
            telemetry.count(DEAD_LETTERS, code)
    else:
        return
    words = {"again": "failed, will be tried again", "dead": "failed, dead letter"}.get(ended.how, ended.how)
    log.info("scan %s %s: %s", scan_id, words, code, extra={"scan_id": scan_id, "state": ended.how, "code": code})
