"""The records' scripts on a real Redis: every state, every refusal."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, cast

import pytest
from redis import Redis

from tests.worker.queue.record_steps import TERMS, claimed, refused, report, submitted, wait_until_due
from worker.errors import LeaseLost, NoSuchScan, QueueFull, UnreadableRecord
from worker.queue.record import Claim, Terms, unpack
from worker.queue.records import Records
from worker.report import Sampling
from worker.types import Strategy

PART = Sampling(
    requested=32,
    decoded=32,
    with_face=32,
    strategy=Strategy.UNIFORM,
    start_s=0.0,
    end_s=12.625,
    max_gap_s=0.5,
    stopped_early=False,
)


def test_a_scan_from_submission_to_its_report(records: Records) -> None:
    scan_id = submitted(records, external_id="post 7")
    assert records.get(scan_id).state == "queued"
    claim = claimed(records, scan_id)
    assert (claim.attempt, claim.adopts) == (1, None)
    assert refused(records, scan_id, "w2") == "running"
    records.enter(claim, "decode", 0.5)
    assert (records.get(scan_id).stage, records.get(scan_id).progress) == ("decode", 0.5)
    assert records.settle(claim, "ab" * 32, "key").follows is None
    assert records.finish(claim, report(scan_id)).how == "finished"
    record = records.get(scan_id)
    assert record.state == "completed"
    assert record.is_final
    assert record.report is not None
    assert unpack(record.report) == report(scan_id)
    assert record.request.external_id == "post 7"
    assert record.created_ms <= (record.started_ms or 0) <= (record.finished_ms or 0)
    assert refused(records, scan_id, "w2") == "completed"
    assert records.redis.hget("vf:open", "acme") == b"0"
    assert 0 < records.redis.ttl(f"vf:scan:{scan_id}") <= TERMS.keep_s


def test_asked_twice_the_end_is_the_same(records: Records) -> None:
    scan_id = submitted(records)
    claim = claimed(records, scan_id)
    records.finish(claim, report(scan_id))
    records.finish(claim, report(scan_id, verdict="real"))
    stored = records.get(scan_id).report
    assert stored is not None
    assert unpack(stored).verdict == "fake"


def test_an_overtaken_attempt_can_write_nothing(records: Records) -> None:
    scan_id = submitted(records)
    old = claimed(records, scan_id)
    records.hand_back(old)
    new = claimed(records, scan_id)
    assert new.attempt == 2
    for write in (
        lambda: records.renew(old),
        lambda: records.enter(old, "store", 0.9),
        lambda: records.settle(old, "ab" * 32, "key"),
        lambda: records.finish(old, report(scan_id)),
        lambda: records.fail(old, code="internal", message="", retryable=True),
        lambda: records.hand_back(old),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert records.get(scan_id).state == "running"
    assert records.finish(new, report(scan_id)).how == "finished"


def test_an_attempt_that_redis_has_forgotten_is_over_for_who_held_it(records: Records) -> None:
    """A failover, or a power cut without AOF ``always``, takes the last writes back: the number of an attempt comes once more."""
    scan_id = submitted(records)
    kept: dict[Any, Any] = {key: records.redis.dump(key) for key in records.redis.scan_iter()}
    before = claimed(records, scan_id)
    records.redis.flushdb()
    for key, value in kept.items():
        records.redis.restore(key, 0, value)
    now = records.claim(scan_id, "w2")
    assert isinstance(now, Claim)
    assert now.attempt == before.attempt
    with pytest.raises(LeaseLost):
        records.renew(before)
    assert records.renew(now) is False


def test_a_final_state_never_changes(records: Records) -> None:
    scan_id = submitted(records)
    claim = claimed(records, scan_id)
    records.fail(claim, code="corrupt", message="nothing decodes", retryable=False)
    before = records.redis.hgetall(f"vf:scan:{scan_id}")
    records.fail(claim, code="internal", message="again", retryable=True)
    records.cancel(scan_id)
    assert refused(records, scan_id, "w2") == "failed"
    with pytest.raises(LeaseLost):
        records.finish(Claim(id=scan_id, attempt=7), report(scan_id))
    assert records.redis.hgetall(f"vf:scan:{scan_id}") == before


def test_retryable_errors_end_in_a_dead_letter(records: Records) -> None:
    scan_id = submitted(records)
    assert records.fail(claimed(records, scan_id), code="fetch_timeout", message="slow", retryable=True).how == "again"
    wait_until_due(records)
    assert records.fail(claimed(records, scan_id), code="fetch_timeout", message="slow", retryable=True).how == "dead"
    record = records.get(scan_id)
    assert (record.state, record.dead, record.tries) == ("failed", True, 2)
    assert record.error == {"code": "fetch_timeout", "message": "slow", "retryable": True}
    assert records.redis.zscore("vf:dead", scan_id) is not None


def test_a_back_off_is_kept(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(backoff_s=60))
    scan_id = submitted(records)
    records.fail(claimed(records, scan_id), code="fetch_timeout", message="", retryable=True)
    assert refused(records, scan_id, "w2") == "early"
    assert 10_000 < records.get(scan_id).not_before_ms - records.now_ms() <= 60_000
    assert records.due() == []


def test_a_lease_that_runs_out_is_taken_once(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(lease_s=600, max_attempts=2))
    scan_id = submitted(records)
    first = claimed(records, scan_id)
    assert records.expired() == {}
    redis.zadd("vf:leases", {scan_id: 1000})
    seen = records.expired()
    assert records.expire(scan_id, seen[scan_id] + 1).how == "held"
    assert records.expire(scan_id, seen[scan_id]).how == "again"
    assert records.expire(scan_id, seen[scan_id]).how == "held"
    with pytest.raises(LeaseLost):
        records.finish(first, report(scan_id))
    claimed(records, scan_id)
    redis.zadd("vf:leases", {scan_id: 1000})
    seen = records.expired()
    assert records.expire(scan_id, seen[scan_id]).how == "dead"
    assert records.get(scan_id).error == {"code": "lease_lost", "message": "its worker was lost", "retryable": True}


def test_a_lease_of_what_does_not_run_is_dropped_and_changes_nothing(records: Records) -> None:
    waiting, gone = submitted(records), "0" * 32
    records.redis.zadd("vf:leases", {waiting: 1000, gone: 1000})
    for scan_id, lease_ms in records.expired().items():
        assert records.expire(scan_id, lease_ms).how == "held"
    assert records.expired() == {}
    assert records.due() == [waiting]
    assert not records.redis.exists(f"vf:scan:{gone}")
    assert claimed(records, waiting).attempt == 1


def test_what_is_gone_waits_no_more(records: Records) -> None:
    gone, queues = "0" * 32, ("vf:waiting", "vf:queued:batch")
    for name in queues:
        records.redis.zadd(name, {gone: 1000})
    assert refused(records, gone, "w1") == "gone"
    assert not records.redis.exists(*queues)


def test_cancelling(records: Records) -> None:
    waiting, running = submitted(records), submitted(records)
    claim = claimed(records, running)
    assert records.cancel(waiting).how == "cancelled"
    assert records.cancel(running).how == "running"
    assert records.renew(claim) is True
    assert records.fail(claim, code="internal", message="cancelled", retryable=False).how == "cancelled"
    assert {records.get(waiting).state, records.get(running).state} == {"cancelled"}
    with pytest.raises(NoSuchScan):
        records.cancel("0" * 32)


def test_limits_of_owner_and_backlog(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(open_scans=2, max_backlog=3))
    mine = [submitted(records), submitted(records)]
    with pytest.raises(QueueFull, match="owner") as refused:
        submitted(records)
    assert refused.value.retry_after_s > 0
    submitted(records, owner="zenith")
    records.cancel(mine[0])
    submitted(records)
    with pytest.raises(QueueFull, match="queue"):
        submitted(records, owner="zenith")


def test_a_callback_is_owed_from_the_moment_of_the_end(records: Records) -> None:
    scan_id = submitted(records, callback_url="https://example.org/hook", external_id="7")
    claim = claimed(records, scan_id)
    assert records.redis.zcard("vf:callbacks") == 0
    of_a_part = report(scan_id).model_copy(update={"calibrated": True, "sampling": PART})
    records.finish(claim, of_a_part)
    records.finish(claim, of_a_part)
    ((event, _),) = records.redis.zrange("vf:callbacks", 0, -1, withscores=True)
    stored = records.redis.hgetall(f"vf:callback:{event.decode()}")
    body = json.loads(stored[b"body"])
    assert (event.decode(), stored[b"url"], body["type"]) == (f"evt_{scan_id}", b"https://example.org/hook", "scan.completed")
    told = {"id": scan_id, "external_id": "7", "status": "completed", "verdict": "fake", "score": 0.9, "decided_by": "model"}
    told |= {"retry_of": None, "calibrated": True, "start_s": 0.0, "end_s": 12.625, "dead": False, "error": None}
    assert body["data"] == told
    finished = datetime.fromtimestamp((records.get(scan_id).finished_ms or 0) / 1000, UTC)
    assert datetime.fromisoformat(body["timestamp"]) == finished


def told_of(records: Records, scan_id: str) -> dict[str, Any]:
    """The body of a scan's callback."""
    return cast(dict[str, Any], json.loads(records.redis.hget(f"vf:callback:evt_{scan_id}", "body")))


@pytest.mark.parametrize("is_dead", [False, True])
def test_the_callback_of_a_failed_scan_says_why(records: Records, is_dead: bool) -> None:
    scan_id = submitted(records, callback_url="https://example.org/hook")
    error = {"code": "fetch_timeout", "message": "slow", "retryable": is_dead}
    for _ in range(TERMS.max_attempts if is_dead else 1):
        assert records.redis.zcard("vf:callbacks") == 0
        records.fail(claimed(records, scan_id), **error)
        wait_until_due(records)
    told = told_of(records, scan_id)
    assert told["type"] == "scan.failed"
    assert told["data"] == {
        "id": scan_id, "external_id": None, "status": "failed", "verdict": None, "score": None, "decided_by": "model",
        "calibrated": False, "start_s": None, "end_s": None, "dead": is_dead, "error": error, "retry_of": None,
    }  # fmt: skip


def test_a_callback_tells_the_owners_decision_on_the_bytes(records: Records) -> None:
    records.redis.set("vf:override:acme:" + "ab" * 32, '{"verdict": "real"}')
    said: dict[tuple[str, bool], tuple[str | None, str]] = {}
    for owner, has_result in (("acme", True), ("zenith", True), ("acme", False)):
        scan_id = submitted(records, owner, callback_url="https://example.org/hook")
        claim = claimed(records, scan_id)
        records.settle(claim, "ab" * 32, f"key of {scan_id}")
        if has_result:
            records.finish(claim, report(scan_id, verdict="fake"))
        else:
            records.fail(claim, code="internal", message="", retryable=False)
        data = told_of(records, scan_id)["data"]
        said[owner, has_result] = data["verdict"], data["decided_by"]
    assert said == {
        ("acme", True): ("real", "human"), ("zenith", True): ("fake", "model"), ("acme", False): (None, "model"),
    }  # fmt: skip


def test_a_callback_tells_a_decision_on_a_part_of_that_part_alone(records: Records) -> None:
    records.redis.set(f"vf:override:acme:{'ab' * 32}:0.000-12.625", '{"verdict": "real"}')
    said = []
    for sampling in (PART, PART.model_copy(update={"end_s": 9.0}), None):
        scan_id = submitted(records, callback_url="https://example.org/hook")
        claim = claimed(records, scan_id)
        records.settle(claim, "ab" * 32, f"key of {scan_id}")
        records.finish(claim, report(scan_id, verdict="fake").model_copy(update={"sampling": sampling}))
        said.append(told_of(records, scan_id)["data"]["decided_by"])
    assert said == ["human", "model", "model"]


def test_times_in_callbacks_are_those_of_the_calendar(redis: Redis) -> None:
    years = (1970, 1999, 2000, 2024, 2027, 2028, 2100, 2101, 2399, 2400)
    moments = [
        datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=day, milliseconds=day * 234_567) for year in years for day in range(366)
    ]
    prelude = files("worker.queue").joinpath("scripts", "prelude.lua").read_text("utf-8")
    script = "local told = {} for i = 2, #ARGV do told[i - 1] = iso(tonumber(ARGV[i])) end return told"
    told = redis.eval(prelude + script, 0, "vf", *(round(moment.timestamp() * 1000) for moment in moments))
    assert [text.decode() for text in told] == [
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") for moment in moments
    ]


@pytest.mark.parametrize("summary", ["{", "7", '{"score": NaN}', '{"end_s": NaN}', '{"score": 0.5}'])
@pytest.mark.parametrize("override", ["{", '{"verdict": "real"}'])
def test_what_cannot_be_read_costs_neither_the_end_nor_the_callback(records: Records, summary: str, override: str) -> None:
    scan_id = submitted(records, callback_url="https://example.org/hook")
    name = f"vf:scan:{scan_id}"
    records.redis.set("vf:override:acme:" + "ab" * 32, override)
    records.redis.hset(name, mapping={"summary": summary, "error": "{", "sha256": "ab" * 32})
    assert records.cancel(scan_id).how == "cancelled"
    told = json.loads(records.redis.hget(f"vf:callback:evt_{scan_id}", "body"))
    assert told["data"]["status"] == "cancelled"
    assert told["data"]["score"] == (0.5 if "0.5" in summary else None)
    assert records.redis.hget("vf:open", "acme") == b"0"


def test_a_decision_that_cannot_be_read_is_none(records: Records) -> None:
    scan_id = submitted(records, callback_url="https://example.org/hook")
    records.redis.set("vf:override:acme:" + "ab" * 32, "{")
    claim = claimed(records, scan_id)
    records.settle(claim, "ab" * 32, "key")
    assert records.finish(claim, report(scan_id)).how == "finished"
    told = json.loads(records.redis.hget(f"vf:callback:evt_{scan_id}", "body"))
    assert (told["data"]["verdict"], told["data"]["decided_by"]) == ("fake", "model")


@pytest.mark.parametrize("stored", [b"{}", zlib.compress(b"{}"), zlib.compress(b"\xff")])
def test_a_report_of_another_version_is_told_as_such(stored: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        unpack(stored)


def test_a_claim_whose_answer_was_lost_may_be_made_again(records: Records) -> None:
    scan_id = submitted(records)
    first = claimed(records, scan_id)
    again = claimed(records, scan_id)
    assert (again.attempt, records.get(scan_id).tries) == (2, 1)
    assert refused(records, scan_id, "w2") == "running"
    with pytest.raises(LeaseLost):
        records.renew(first)
    assert records.finish(again, report(scan_id)).how == "finished"


def test_a_live_scan_does_not_wait_for_a_low_ones_back_off(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(backoff_s=60))
    low, live, batch = (submitted(records, priority=name) for name in ("low", "live", "batch"))
    claim = claimed(records, low)
    records.settle(claim, "ab" * 32, "key")
    records.fail(claim, code="fetch_timeout", message="", retryable=True)
    lead = claimed(records, live)
    assert records.settle(lead, "ab" * 32, "key").follows is None
    assert records.settle(claimed(records, batch), "ab" * 32, "key").follows == live


def test_a_scan_that_is_to_be_cancelled_does_not_go_back_into_the_queue(records: Records) -> None:
    handed, following, leader = (submitted(records) for _ in range(3))
    claim = claimed(records, handed)
    records.cancel(handed)
    assert records.enter(claim, "decode", 0.1) is True
    assert records.hand_back(claim).how == "cancelled"
    records.settle(claimed(records, leader), "ab" * 32, "key")
    claim = claimed(records, following)
    records.cancel(following)
    records.settle(claim, "ab" * 32, "key")
    assert {records.get(handed).state, records.get(following).state} == {"cancelled"}


def test_a_back_off_doubles_with_each_try(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(backoff_s=10, backoff_max_s=25, max_attempts=9))
    scan_id = submitted(records)
    for longest_ms in (10_000, 20_000, 25_000):
        claim = claimed(records, scan_id)
        before_ms = records.now_ms()
        records.fail(claim, code="internal", message="", retryable=True)
        due_ms = records.get(scan_id).not_before_ms
        assert before_ms + longest_ms // 2 <= due_ms <= records.now_ms() + longest_ms
        redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)


def test_a_record_of_another_version_breaks_no_list(records: Records) -> None:
    good, odd = submitted(records), submitted(records)
    records.redis.hset(f"vf:scan:{odd}", "request", '{"schema_version": 9}')
    assert [record.id for record in records.get_many([odd, good])] == [good]
    with pytest.raises(UnreadableRecord, match=odd):
        records.get(odd)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempt", "x"),
        ("attempt", "007"),
        ("tries", "1.5"),
        ("attempt", "9" * 20),
        ("not_before_ms", "weird"),
        ("not_before_ms", "inf"),
    ],
)
def test_one_that_cannot_be_claimed_ends_as_a_dead_letter_and_holds_up_nobody(records: Records, name: str, value: str) -> None:
    good, odd = submitted(records), submitted(records)
    records.redis.hset(f"vf:scan:{odd}", name, value)
    assert refused(records, odd, "w1") == "dead"
    assert refused(records, odd, "w1") == "failed"
    assert records.due() == [good]
    assert records.redis.zrange("vf:dead", 0, -1) == [odd.encode()]
    assert records.redis.hget("vf:open", "acme") == b"1"
    assert claimed(records, good).attempt == 1
