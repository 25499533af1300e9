"""One result for the same bytes, whoever asks: keys, caches, leaders and followers, on a real Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.worker.queue.record_steps import claimed, refused, report, request, submitted
from worker.errors import Conflict
from worker.queue.record import Claim, Ended, Settled, Submission, Terms, unpack
from worker.queue.records import Records
from worker.queue.requests import RequestOptions


def test_idempotency_keys(records: Records) -> None:
    first = submitted(records, idempotency_key="k")
    again = records.submit([Submission(request=request(idempotency_key="k"), owner="acme")])[0]
    assert (again.id, again.created) == (first, False)
    with pytest.raises(Conflict, match=first):
        submitted(records, url="https://example.org/other.mp4", idempotency_key="k")
    other = records.submit([Submission(request=request(idempotency_key="k"), owner="zenith")])[0]
    assert other.id != first


def test_a_key_whose_scan_is_forgotten_is_free_for_any_request(records: Records, redis: Redis) -> None:
    first = submitted(records, idempotency_key="k")
    redis.delete(f"vf:scan:{first}")  # as ``queue.keep_s`` does where it is shorter than ``queue.idempotency_s``
    other = Submission(request=request("https://example.org/other.mp4", idempotency_key="k"), owner="acme")
    assert records.known(other) is None
    (made,) = records.submit([other])
    assert (made.created, made.refusal) == (True, None)


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
    records.redis.zadd("vf:waiting", {follower: 0})
    assert refused(records, follower, "w1") == "following"
    assert follower not in records.due(), "nobody rings for it while its leader runs"
    assert records.finish(lead, report(leader)).ring == (follower,)
    assert records.due() == [follower], "also where its bell is lost"
    assert records.redis.get("vf:lead:key") is None
    claim = claimed(records, follower)
    assert claim.adopts == leader
    assert records.finish(claim, report(follower)).how == "finished"


def test_what_is_not_to_wait_yet_hears_whom_it_would_follow_and_goes_on_running(records: Records) -> None:
    leader, follower = submitted(records), submitted(records)
    lead = claimed(records, leader)
    assert records.settle(lead, "ab" * 32, "key", waits=False).follows is None
    following = claimed(records, follower)
    for _ in range(2):
        assert records.settle(following, "ab" * 32, "key", waits=False).follows == leader
        assert (records.get(follower).state, records.get(follower).leader) == ("running", None)
    records.fail(lead, code="internal", message="", retryable=False)
    assert records.settle(following, "ab" * 32, "key").follows is None, "what it would have followed is gone"
    assert records.finish(following, report(follower)).how == "finished"


def test_a_failed_leader_is_followed_by_one_of_its_followers(records: Records) -> None:
    leader, *followers = (submitted(records) for _ in range(4))
    lead = claimed(records, leader)
    records.settle(lead, "ab" * 32, "key")
    for follower in followers:
        records.settle(claimed(records, follower), "ab" * 32, "key")
    ended = records.fail(lead, code="internal", message="", retryable=False)
    (promoted,) = ended.ring
    assert promoted in followers
    assert records.due() == [promoted], "also where its bell is lost"
    assert records.redis.get("vf:lead:key") == promoted.encode()
    others = [follower for follower in followers if follower != promoted]
    assert {records.get(follower).leader for follower in others} == {promoted}
    claim = claimed(records, promoted)
    assert claim.adopts is None
    assert records.settle(claim, "ab" * 32, "key").follows is None
    assert sorted(records.finish(claim, report(promoted)).ring) == sorted(others)


def test_of_the_followers_of_a_failed_leader_the_most_urgent_leads_and_of_equals_the_oldest(records: Records) -> None:
    leader, *followers = (submitted(records, priority=name) for name in ("live", "low", "batch", "live", "live", "live"))
    low, batch, one, oldest, other = followers
    for follower, created_ms in ((oldest, 1), (one, 2), (other, 2)):
        records.redis.hset(f"vf:scan:{follower}", "created_ms", created_ms)
    lead = claimed(records, leader)
    records.settle(lead, "ab" * 32, "key")
    for follower in followers:
        records.settle(claimed(records, follower), "ab" * 32, "key")
    promoted = []
    for _ in followers:
        (scan_id,) = records.fail(lead, code="corrupt", message="", retryable=False).ring
        promoted.append(scan_id)
        lead = claimed(records, scan_id)
        assert records.settle(lead, "ab" * 32, "key").follows is None
    assert promoted == [oldest, *sorted((one, other)), batch, low]


def test_other_options_are_another_result(records: Records) -> None:
    first, second = submitted(records), submitted(records, options=RequestOptions(max_frames=8))
    records.settle(claimed(records, first), "ab" * 32, "key")
    assert records.settle(claimed(records, second), "ab" * 32, "key of other options").follows is None


def test_a_retried_submission_is_one_scan(records: Records) -> None:
    submission = Submission(request=request(), owner="acme")
    records.submit([submission])
    assert records.submit([submission])[0].id == submission.id
    assert records.redis.hget("vf:open", "acme") == b"1"


def test_a_leader_that_found_other_bytes_at_its_second_attempt_is_not_taken_for_the_first(records: Records) -> None:
    leader, follower, later = (submitted(records) for _ in range(3))
    lead = claimed(records, leader)
    records.settle(lead, "aa" * 32, "key of a")
    records.settle(claimed(records, follower), "aa" * 32, "key of a")
    records.hand_back(lead)
    lead = claimed(records, leader)
    records.settle(lead, "bb" * 32, "key of b")
    assert records.redis.get("vf:lead:key of a") is None
    assert records.settle(claimed(records, later), "aa" * 32, "key of a").follows is None
    assert records.finish(lead, report(leader, verdict="real")).ring == (follower,)
    claim = claimed(records, follower)
    assert claim.adopts is None
    assert records.settle(claim, "aa" * 32, "key of a").follows == later


def test_whoever_follows_one_that_found_other_bytes_waits_for_it_no_more(records: Records) -> None:
    leader, follower = submitted(records), submitted(records)
    lead = claimed(records, leader)
    records.settle(lead, "aa" * 32, "key of a")
    records.settle(claimed(records, follower), "aa" * 32, "key of a")
    records.hand_back(lead)
    records.settle(claimed(records, leader), "bb" * 32, "key of b")
    claim = claimed(records, follower)
    assert (claim.adopts, records.get(follower).leader) == (None, None)
    assert records.settle(claim, "aa" * 32, "key of a").follows is None


@pytest.mark.parametrize("is_left", [False, True], ids=["for its turn at a site", "for a worker that can do it"])
def test_what_follows_a_scan_that_is_to_wait_long_goes_on_without_it(records: Records, is_left: bool) -> None:
    leader, follower, later = (submitted(records) for _ in range(3))
    lead = claimed(records, leader)
    records.settle(lead, "ab" * 32, "key")
    for one in (follower, later):
        assert records.settle(claimed(records, one), "ab" * 32, "key").follows == leader
    first, second = sorted((follower, later), key=lambda one: (records.get(one).created_ms, one))
    ended = records.pass_on(lead, "no room", wait_s=7000) if is_left else records.hand_back(lead, wait_s=7000)
    assert (ended.how, ended.ring) == ("queued", (first,))
    claim = claimed(records, first)
    assert records.settle(claim, "ab" * 32, "key") == Settled()
    assert records.finish(claim, report(first)).ring == (second,)
    assert claimed(records, second).adopts == first
    assert refused(records, leader, "w") == "early"
    records.redis.hset(f"vf:scan:{leader}", "not_before_ms", 0)
    assert records.settle(claimed(records, leader), "ab" * 32, "key").cached is not None


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


def test_a_result_that_is_kept_for_no_time_answers_nobody(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(cache_s=0))
    first, second = submitted(records), submitted(records)
    claim = claimed(records, first)
    records.settle(claim, "ab" * 32, "key")
    assert records.finish(claim, report(first)).how == "finished"
    settled = records.settle(claimed(records, second), "ab" * 32, "key")
    assert (settled.cached, settled.follows) == (None, None)


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


def test_a_live_scan_leaves_a_low_leader_that_waits_again_and_each_gets_one_result(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(backoff_s=60))
    low, live, batch, other = (submitted(records, priority=name) for name in ("low", "live", "batch", "low"))
    claim = claimed(records, low)
    records.settle(claim, "ab" * 32, "key")
    for follower in (live, batch, other):
        assert records.settle(claimed(records, follower), "ab" * 32, "key").follows == low
    assert refused(records, live, "w1") == "following", "its leader runs"
    records.fail(claim, code="fetch_timeout", message="", retryable=True)
    assert refused(records, other, "w1") == "following", "it is no more urgent than its leader"

    lead = claimed(records, live)
    assert (lead.adopts, records.get(live).leader) == (None, None)
    assert records.settle(lead, "ab" * 32, "key").follows is None
    assert records.settle(claimed(records, batch), "ab" * 32, "key").follows == live
    redis.hset(f"vf:scan:{low}", "not_before_ms", 0)
    assert records.settle(claimed(records, low), "ab" * 32, "key").follows == live, "from now on it is the one that waits"
    assert refused(records, other, "w1") == "following"

    assert sorted(records.finish(lead, report(live)).ring) == sorted([low, batch])
    for leader, follower, ring in ((live, batch, ()), (live, low, (other,)), (low, other, ())):
        claim = claimed(records, follower)
        assert claim.adopts == leader
        assert records.finish(claim, report(follower)).ring == ring
    assert redis.hgetall("vf:ended") == {b"completed": b"4"}
    assert redis.hget("vf:open", "acme") == b"0"


def test_a_leader_that_was_left_runs_on_where_the_one_that_left_it_fails(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(backoff_s=60))
    low, live, other = (submitted(records, priority=name) for name in ("low", "live", "low"))
    claim = claimed(records, low)
    records.settle(claim, "ab" * 32, "key")
    for follower in (live, other):
        records.settle(claimed(records, follower), "ab" * 32, "key")
    records.fail(claim, code="fetch_timeout", message="", retryable=True)
    lead = claimed(records, live)
    records.settle(lead, "ab" * 32, "key")
    redis.hset(f"vf:scan:{low}", "not_before_ms", 0)
    records.settle(claimed(records, low), "ab" * 32, "key")
    assert records.fail(lead, code="corrupt", message="", retryable=False).ring == (low,)
    again = claimed(records, low)
    assert again.adopts is None
    assert records.settle(again, "ab" * 32, "key").follows is None
    assert records.finish(again, report(low)).ring == (other,)
    assert claimed(records, other).adopts == low


def test_one_that_left_its_leader_follows_it_again_where_that_runs_by_then(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(backoff_s=60))
    low, live = (submitted(records, priority=name) for name in ("low", "live"))
    claim = claimed(records, low)
    records.settle(claim, "ab" * 32, "key")
    records.settle(claimed(records, live), "ab" * 32, "key")
    records.hand_back(claim)
    left = claimed(records, live)
    lead = claimed(records, low)
    assert records.settle(lead, "ab" * 32, "key").follows is None
    assert records.settle(left, "ab" * 32, "key").follows == low
    assert records.finish(lead, report(low)).ring == (live,)
    assert claimed(records, live).adopts == low
