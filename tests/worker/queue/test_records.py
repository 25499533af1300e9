"""The records' scripts on a real Redis: every state, every refusal."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime

import pytest
from redis import Redis

from worker.errors import Conflict, LeaseLost, NoSuchScan, QueueFull, UnreadableRecord
from worker.queue.record import Claim, Ended, Submission, Terms, unpack
from worker.queue.records import Records
from worker.queue.requests import RequestOptions, RequestSource, ScanRequest
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


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, "vf", TERMS)


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


def test_idempotency_keys(records: Records) -> None:
    first = submitted(records, idempotency_key="k")
    again = records.submit([Submission(request=request(idempotency_key="k"), owner="acme")])[0]
    assert (again.id, again.created) == (first, False)
    with pytest.raises(Conflict, match=first):
        submitted(records, url="https://example.org/other.mp4", idempotency_key="k")
    other = records.submit([Submission(request=request(idempotency_key="k"), owner="zenith")])[0]
    assert other.id != first


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


def test_the_same_bytes_again_are_answered_from_the_first_result(records: Records) -> None:
    first, second = submitted(records), submitted(records)
    claim = claimed(records, first)
    records.settle(claim, "ab" * 32, "key")
    records.finish(claim, report(first))
    settled = records.settle(claimed(records, second), "ab" * 32, "key")
    assert settled.cached is not None
    assert unpack(settled.cached).id == first


def test_followers_take_over_the_leaders_result(records: Records) -> None:
    leader, follower = submitted(records), submitted(records)
    lead = claimed(records, leader)
    records.settle(lead, "ab" * 32, "key")
    following = claimed(records, follower)
    assert records.settle(following, "ab" * 32, "key").follows == leader
    assert records.get(follower).state == "queued"
    assert records.get(follower).tries == 0
    assert refused(records, follower, "w1") == "following"
    assert records.finish(lead, report(leader)).ring == (follower,)
    claim = claimed(records, follower)
    assert claim.adopts == leader
    assert records.finish(claim, report(follower)).how == "finished"


def test_a_failed_leader_is_followed_by_one_of_its_followers(records: Records) -> None:
    leader, *followers = (submitted(records) for _ in range(4))
    lead = claimed(records, leader)
    records.settle(lead, "ab" * 32, "key")
    for follower in followers:
        records.settle(claimed(records, follower), "ab" * 32, "key")
    ended = records.fail(lead, code="internal", message="", retryable=False)
    (promoted,) = ended.ring
    assert promoted in followers
    others = [follower for follower in followers if follower != promoted]
    assert {records.get(follower).leader for follower in others} == {promoted}
    claim = claimed(records, promoted)
    assert claim.adopts is None
    assert records.settle(claim, "ab" * 32, "key").follows is None
    assert sorted(records.finish(claim, report(promoted)).ring) == sorted(others)


def test_other_options_are_another_result(records: Records) -> None:
    first, second = submitted(records), submitted(records, options=RequestOptions(max_frames=8))
    records.settle(claimed(records, first), "ab" * 32, "key")
    assert records.settle(claimed(records, second), "ab" * 32, "key of other options").follows is None


def test_a_callback_is_owed_from_the_moment_of_the_end(records: Records) -> None:
    scan_id = submitted(records, callback_url="https://example.org/hook", external_id="7")
    claim = claimed(records, scan_id)
    assert records.redis.zcard("vf:callbacks") == 0
    records.finish(claim, report(scan_id))
    records.finish(claim, report(scan_id))
    ((event, _),) = records.redis.zrange("vf:callbacks", 0, -1, withscores=True)
    stored = records.redis.hgetall(f"vf:callback:{event.decode()}")
    body = json.loads(stored[b"body"])
    assert (event.decode(), stored[b"url"], body["type"]) == (f"evt_{scan_id}", b"https://example.org/hook", "scan.completed")
    told = {"id": scan_id, "external_id": "7", "status": "completed", "verdict": "fake", "score": 0.9, "decided_by": "model"}
    assert body["data"] == told | {"dead": False, "error": None}
    finished = datetime.fromtimestamp((records.get(scan_id).finished_ms or 0) / 1000, UTC)
    assert datetime.fromisoformat(body["timestamp"]) == finished


@pytest.mark.parametrize("summary", ["{", "7", '{"score": NaN}', '{"score": 0.5}'])
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


def test_a_retried_submission_is_one_scan(records: Records) -> None:
    submission = Submission(request=request(), owner="acme")
    records.submit([submission])
    assert records.submit([submission])[0].id == submission.id
    assert records.redis.hget("vf:open", "acme") == b"1"


def test_a_claim_whose_answer_was_lost_may_be_made_again(records: Records) -> None:
    scan_id = submitted(records)
    first = claimed(records, scan_id)
    again = claimed(records, scan_id)
    assert (again.attempt, records.get(scan_id).tries) == (2, 1)
    assert refused(records, scan_id, "w2") == "running"
    with pytest.raises(LeaseLost):
        records.renew(first)
    assert records.finish(again, report(scan_id)).how == "finished"


def test_a_leader_that_found_other_bytes_at_its_second_attempt_is_not_taken_for_the_first(records: Records) -> None:
    leader, follower, later = (submitted(records) for _ in range(3))
    lead = claimed(records, leader)
    records.settle(lead, "aa" * 32, "key of a")
    records.settle(claimed(records, follower), "aa" * 32, "key of a")
    records.hand_back(lead)
    lead = claimed(records, leader)
    records.settle(lead, "bb" * 32, "key of b")
    assert records.settle(claimed(records, later), "aa" * 32, "key of a").follows is None
    assert records.finish(lead, report(leader, verdict="real")).ring == (follower,)
    claim = claimed(records, follower)
    assert claim.adopts is None
    assert records.settle(claim, "aa" * 32, "key of a").follows == later


def test_a_result_that_was_taken_over_grows_no_younger(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(cache_s=1000))
    first, second = submitted(records), submitted(records)
    claim = claimed(records, first)
    records.settle(claim, "ab" * 32, "key")
    records.finish(claim, report(first))
    redis.expire("vf:result:key", 500)
    claim = claimed(records, second)
    assert records.settle(claim, "ab" * 32, "key").cached is not None
    records.finish(claim, report(second))
    assert redis.get("vf:result:key") == first.encode()
    assert 0 < redis.ttl("vf:result:key") <= 500


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


def test_one_that_leads_after_all_is_followed(records: Records) -> None:
    leader, follower, later = (submitted(records) for _ in range(3))
    lead = claimed(records, leader)
    records.settle(lead, "ab" * 32, "key")
    records.settle(claimed(records, follower), "ab" * 32, "key")
    records.finish(lead, report(leader))
    claim = claimed(records, follower)
    assert claim.adopts == leader
    assert records.settle(claim, "ab" * 32, "key", anew=True).cached is None, "its result is of no use"
    assert records.get(follower).leader is None
    assert records.settle(claimed(records, later), "ab" * 32, "key").follows == follower


def test_whoever_follows_a_cancelled_scan_is_rung_for_at_once(records: Records) -> None:
    leader, first, second, other = (submitted(records) for _ in range(4))
    lead = claimed(records, leader)
    records.settle(lead, "ab" * 32, "key")
    records.settle(claimed(records, first), "ab" * 32, "key")
    records.cancel(leader)
    ended = records.claim(leader, "w1")  # the answer to its first claim was lost
    assert ended == Ended(how="cancelled", ring=(first,))
    records.settle(claimed(records, second), "cd" * 32, "of second")
    records.settle(claimed(records, other), "cd" * 32, "of second")
    records.settle(claimed(records, first), "ab" * 32, "key")
    records.cancel(second)
    settled = records.settle(Claim(id=second, attempt=1), "ab" * 32, "key")
    assert (settled.follows, settled.ring) == ("", (other,))
