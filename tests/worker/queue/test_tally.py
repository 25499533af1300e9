"""How scans end is counted once, by verdict or code, and said in one line."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from redis import Redis

from tests.worker.queue.record_steps import TERMS, claimed, report, submitted, wait_until_due
from tests.worker.telemetry.recorded import Recorded
from worker.queue.records import Records


@pytest.fixture
def told() -> Recorded:
    return Recorded()


@pytest.fixture
def records(redis: Redis, told: Recorded) -> Records:
    return Records(redis, "vf", TERMS, told)


@pytest.mark.parametrize("verdict", ["fake", "real", "uncertain", "not_applicable"])
def test_a_completed_one_by_its_verdict(records: Records, told: Recorded, verdict: str, caplog: pytest.LogCaptureFixture) -> None:
    scan_id = submitted(records)
    with caplog.at_level(logging.INFO, "worker.queue.tally"):
        records.finish(claimed(records, scan_id), report(scan_id, verdict=verdict))
    assert told.counts == {("scans_total", verdict, "none"): 1}
    assert caplog.messages == [f"scan {scan_id} completed: {verdict}"]
    assert {"scan_id": scan_id, "verdict": verdict, "attempt": 1}.items() <= vars(caplog.records[0]).items()


def test_one_without_a_verdict(records: Records, told: Recorded) -> None:
    scan_id = submitted(records)
    records.finish(claimed(records, scan_id), report(scan_id).model_copy(update={"verdict": None}))
    assert told.counts == {("scans_total", "none", "none"): 1}


def test_a_failed_one_by_its_code(records: Records, told: Recorded) -> None:
    records.fail(claimed(records, submitted(records)), code="corrupt", message="", retryable=False)
    assert told.counts == {("scans_total", "none", "corrupt"): 1}


def test_one_that_cannot_be_claimed(records: Records, told: Recorded) -> None:
    scan_id = submitted(records)
    records.redis.hset(f"vf:scan:{scan_id}", "tries", "x")
    for _ in range(2):
        records.claim(scan_id, "w1")
    assert told.counts == {("scans_total", "none", "internal"): 1, ("dead_letters_total", "internal"): 1}


def test_attempts_that_are_made_again_and_the_dead_letter_at_their_end(
    records: Records, told: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    scan_id = submitted(records)
    with caplog.at_level(logging.INFO, "worker.queue.tally"):
        records.fail(claimed(records, scan_id), code="fetch_timeout", message="", retryable=True)
        assert told.counts == {("scan_retries_total", "fetch_timeout"): 1}
        wait_until_due(records)
        records.fail(claimed(records, scan_id), code="decode_crash", message="", retryable=True)
    assert told.counts == {
        ("scan_retries_total", "fetch_timeout"): 1,
        ("scans_total", "none", "decode_crash"): 1,
        ("dead_letters_total", "decode_crash"): 1,
    }
    assert caplog.messages == [
        f"scan {scan_id} failed, will be tried again: fetch_timeout",
        f"scan {scan_id} failed, dead letter: decode_crash",
    ]


@pytest.mark.parametrize("how", ["fail", "hand back"])
def test_a_cancelled_one_has_neither_verdict_nor_code(records: Records, told: Recorded, how: str) -> None:
    scan_id = submitted(records)
    claim = claimed(records, scan_id)
    records.cancel(scan_id)
    if how == "fail":
        records.fail(claim, code="internal", message="cancelled", retryable=False)
    else:
        records.hand_back(claim)
    assert records.get(scan_id).state == "cancelled"
    assert told.counts == {("scans_total", "none", "none"): 1}


def test_one_that_was_to_follow_another_and_is_cancelled(records: Records, told: Recorded) -> None:
    leader, other = (claimed(records, submitted(records)) for _ in range(2))
    records.settle(leader, "ab" * 32, "same bytes")
    records.cancel(other.id)
    assert records.settle(other, "ab" * 32, "same bytes").follows == ""
    assert told.counts == {("scans_total", "none", "none"): 1}


def test_what_is_no_end_is_not_counted(records: Records, told: Recorded) -> None:
    records.hand_back(claimed(records, submitted(records)))
    records.cancel(submitted(records))
    assert told.counts == {}, "the one waits again, the other was nobody's"


def test_one_that_had_ended_before_its_process_died_is_not_counted_as_failed(
    records: Records, told: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """The parent never heard of the end, and tells that the process died."""
    scan_id = submitted(records)
    claim = claimed(records, scan_id)
    records.finish(claim, report(scan_id))
    with caplog.at_level(logging.INFO, "worker.queue.tally"):
        assert records.fail(claim, code="internal", message="killed by SIGKILL", retryable=True).how == "ended"
    assert records.get(scan_id).state == "completed"
    assert told.counts == {("scans_total", "fake", "none"): 1}
    assert caplog.messages == []


def test_one_that_had_failed_otherwise_is_counted_once(records: Records, told: Recorded) -> None:
    claim = claimed(records, submitted(records))
    records.fail(claim, code="corrupt", message="nothing decodes", retryable=False)
    assert records.fail(claim, code="internal", message="killed by SIGKILL", retryable=True).how == "ended"
    assert told.counts == {("scans_total", "none", "corrupt"): 1}


@pytest.mark.parametrize("how", ["failed", "dead", "cancelled"])
def test_an_end_whose_answer_was_lost_is_answered_and_counted_as_it_was(
    redis: Redis, records: Records, told: Recorded, how: str
) -> None:
    """The client sends it again; nobody has counted the first."""
    scan_id = submitted(records)
    claim = claimed(records, scan_id)
    if how == "cancelled":
        records.cancel(scan_id)
    terms = replace(TERMS, max_attempts=1)
    for teller in (Records(redis, "vf", terms), Records(redis, "vf", terms, told)):
        assert teller.fail(claim, code="internal", message="", retryable=how == "dead").how == how
    code = "none" if how == "cancelled" else "internal"
    dead = {("dead_letters_total", code): 1} if how == "dead" else {}
    assert told.counts == {("scans_total", "none", code): 1} | dead
