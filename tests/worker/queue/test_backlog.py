"""What is told of the backlog is the backlog, whatever way scans take through it."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from redis import Redis
from redis.connection import Connection

from tests.worker.queue.record_steps import TERMS, claimed, refused, report, submitted, wait_until_due
from tests.worker.queue.test_callbacks import fill, give_up
from worker.queue.backlog import Backlog, read_backlog
from worker.queue.callbacks import Callbacks
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.queue.record import Claim
from worker.queue.records import Records
from worker.queue.requests import QUEUES


def seen(records: Records) -> tuple[dict[str, int], dict[str, int]]:
    """Waiting and running scans by queue, without those that have none."""
    backlog = read_backlog(records)
    return {name: n for name, n in backlog.waiting.items() if n}, {name: n for name, n in backlog.running.items() if n}


def test_an_empty_queue(records: Records) -> None:
    nothing = dict.fromkeys(QUEUES, 0)
    assert read_backlog(records) == Backlog(
        waiting=nothing,
        due=nothing,
        oldest_s=nothing,
        running=nothing,
        dead=0,
        callbacks_owed=0,
        callbacks_oldest_s=0,
        callbacks_dead=0,
        ended={},
        open_scans={},
    )


def test_it_is_of_one_moment(redis_server: EmbeddedRedis, records: Records) -> None:
    """Whatever others do between its questions."""
    waiting = [submitted(records) for _ in range(30)]

    class Slow(Connection):
        """Sends one command after another, each after a scan was taken."""

        def pack_commands(self, commands: Iterable[Sequence[Any]]) -> list[bytes]:
            return [b"".join(self.pack_command(*command)) for command in commands]

        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            for one in command if isinstance(command, list) else [command]:
                if waiting:
                    records.claim(waiting.pop(), "w1")
                super().send_packed_command([one], check_health)

    with connect(url=redis_server.url, timeout_s=10, patience_s=10) as client:
        client.connection_pool.connection_class = Slow
        backlog = read_backlog(Records(client, "vf", TERMS))
    assert len(waiting) < 20, "scans were taken meanwhile"
    assert backlog.waiting["batch"] + backlog.running["batch"] == sum(backlog.open_scans.values()) == 30


def test_a_scan_moves_from_waiting_to_running_and_back(records: Records) -> None:
    scan_id = submitted(records, priority="low")
    assert seen(records) == ({"low": 1}, {})
    claim = claimed(records, scan_id)
    assert seen(records) == ({}, {"low": 1})
    records.hand_back(claim)
    assert seen(records) == ({"low": 1}, {})
    claim = claimed(records, scan_id)
    records.fail(claim, code="internal", message="", retryable=True)
    assert seen(records) == ({"low": 1}, {})
    wait_until_due(records)
    records.finish(claimed(records, scan_id), report(scan_id))
    assert seen(records) == ({}, {})
    assert read_backlog(records).ended == {"completed": 1}


def test_the_pause_before_another_try_is_no_waiting(redis: Redis) -> None:
    records = Records(redis, "vf", replace(TERMS, backoff_s=3600))
    claim = claimed(records, submitted(records, priority="live"))
    records.fail(claim, code="internal", message="", retryable=True)
    backlog = read_backlog(records)
    assert (backlog.waiting["live"], backlog.due["live"], backlog.oldest_s["live"]) == (1, 0, 0)


def test_scans_whose_turn_at_a_site_lies_ahead_are_not_due_until_it_comes(records: Records) -> None:
    ids = [submitted(records) for _ in range(3)]
    for scan_id, wait_s in zip(ids, (0, 3600, 7200), strict=True):
        records.hand_back(claimed(records, scan_id), wait_s)
    first = read_backlog(records)
    records.redis.zincrby("vf:queued:batch", -1000 * 3600, ids[1])  # as it is an hour later
    second = read_backlog(records)
    assert [(backlog.waiting["batch"], backlog.due["batch"]) for backlog in (first, second)] == [(3, 1), (3, 2)]


def test_the_oldest_is_the_one_that_has_been_due_longest(records: Records) -> None:
    first = submitted(records)
    second = submitted(records)
    now_ms = records.now_ms()
    records.redis.zadd("vf:queued:batch", {first: now_ms - 60_000, second: now_ms - 30_000})
    assert 60 <= read_backlog(records).oldest_s["batch"] < 90
    claimed(records, first)
    assert 30 <= read_backlog(records).oldest_s["batch"] < 60


def test_a_scan_that_follows_another_is_due_when_that_has_ended(records: Records) -> None:
    def due() -> set[bytes]:
        return set(records.redis.zrangebyscore("vf:queued:batch", "-inf", records.now_ms()))

    leader, *followers = (submitted(records) for _ in range(4))
    lead = claimed(records, leader)
    records.settle(lead, "ab" * 32, "key")
    for scan_id in followers:
        records.settle(claimed(records, scan_id), "ab" * 32, "key")
    backlog = read_backlog(records)
    assert (backlog.waiting["batch"], backlog.due["batch"], backlog.oldest_s["batch"]) == (3, 0, 0)
    (second,) = records.fail(lead, code="corrupt", message="", retryable=False).ring
    assert due() == {second.encode()}, "the others follow this one now"
    lead = claimed(records, second)
    records.settle(lead, "ab" * 32, "key")
    assert read_backlog(records).oldest_s["batch"] == 0
    rung = records.finish(lead, report(second)).ring
    assert due() == {scan_id.encode() for scan_id in rung}
    assert read_backlog(records).oldest_s["batch"] < 60, "since then, not since it was submitted"


def test_a_follower_that_was_due_to_workers_of_another_version_is_not_once_it_is_looked_at(records: Records) -> None:
    leader, follower = submitted(records), submitted(records)
    for scan_id in (leader, follower):
        records.settle(claimed(records, scan_id), "ab" * 32, "key")
    records.redis.zadd("vf:queued:batch", {follower: 1})
    assert refused(records, follower, "w") == "following"
    assert (read_backlog(records).waiting["batch"], read_backlog(records).oldest_s["batch"]) == (1, 0)


def test_a_follower_is_due_where_the_other_waits_and_is_less_urgent_and_where_nobody_said_that_it_ended(records: Records) -> None:
    def after_tidying(scan_id: str) -> float:
        while records.tidy([scan_id]):
            pass
        found = records.redis.zscore("vf:queued:live", scan_id)
        assert found is not None
        return float(found)

    leader, follower = submitted(records, priority="batch"), submitted(records, priority="live")
    lead = claimed(records, leader)
    for claim in (lead, claimed(records, follower)):
        records.settle(claim, "ab" * 32, "key")
    assert after_tidying(follower) == math.inf
    records.redis.zrem("vf:queued:live", follower)  # a worker of a version without it
    assert after_tidying(follower) == math.inf
    records.fail(lead, code="internal", message="", retryable=True)
    assert after_tidying(follower) <= records.now_ms()
    assert read_backlog(records).oldest_s["live"] < 60, "since then, not since it was submitted"
    records.redis.zadd("vf:queued:live", {follower: math.inf})
    records.redis.hset(f"vf:scan:{leader}", "state", "completed")  # by a worker of a version that rings its followers alone
    assert after_tidying(follower) <= records.now_ms()


def test_a_record_that_redis_forgot_waits_no_more(records: Records) -> None:
    scan_id = submitted(records, priority="live")
    records.redis.delete(f"vf:scan:{scan_id}")
    records.claim(scan_id, "w1")
    assert seen(records) == ({}, {})


def test_whatever_happens_the_queues_hold_what_waits(records: Records) -> None:
    """Random walks through submitting, claiming, failing, following, cancelling, expiring and ending."""
    chance = random.Random(8)
    scans: list[str] = []
    held: dict[str, Claim] = {}
    for step in range(300):
        act = chance.choice(("submit", "submit", "claim", "claim", "claim", "end", "fail", "back", "follow", "cancel", "expire"))
        if act == "submit":
            scans.append(submitted(records, priority=chance.choice(("live", "batch", "low"))))
        elif act == "claim" and scans:
            scan_id = chance.choice(scans)
            taken = records.claim(scan_id, f"w{step}")
            if isinstance(taken, Claim):
                held[scan_id] = taken
        elif act == "cancel" and scans:
            records.cancel(chance.choice(scans))
        elif held:
            scan_id = chance.choice(list(held))
            claim = held.pop(scan_id)
            if act == "end":
                records.finish(claim, report(scan_id))
            elif act == "fail":
                records.fail(claim, code="internal", message="", retryable=chance.random() < 0.7)
            elif act == "back":
                records.hand_back(claim)
            elif act == "follow" and records.settle(claim, "ab" * 32, "same bytes").follows is None:
                held[scan_id] = claim
            elif act == "expire":
                lease = records.redis.zscore("vf:leases", scan_id)
                assert lease is not None
                records.expire(scan_id, int(lease))
        waiting = [scan_id.decode() for scan_id in records.redis.zrange("vf:waiting", 0, -1)]
        truth = Counter(records.priorities(waiting).values())
        assert seen(records) == (truth, Counter(records.priorities(list(held)).values())), f"step {step}: {act}"


def test_the_oldest_callback_is_the_one_that_has_been_due_longest_unless_a_courier_has_it(redis: Redis, records: Records) -> None:
    fill(redis, "acme", 2)
    first, second = "evt_acme0000", "evt_acme0001"
    now_ms = records.now_ms()
    redis.zadd("vf:callbacks", {first: now_ms - 60_000, second: now_ms - 30_000})
    assert 60 <= read_backlog(records).callbacks_oldest_s < 90
    callbacks = Callbacks(redis)
    (parcel,), _ = callbacks.claim(1, lease_s=3600, share=1)
    assert parcel.id == first
    assert 30 <= read_backlog(records).callbacks_oldest_s < 60
    (other,), _ = callbacks.claim(1, lease_s=3600, share=1)
    assert callbacks.try_again(other, wait_s=3600, error="500")
    assert read_backlog(records).callbacks_oldest_s == 0, "none is due"


def test_dead_callbacks_that_redis_forgot_are_not_counted(redis: Redis, records: Records) -> None:
    give_up(redis, "acme", 70)
    for n in range(68):
        redis.delete(f"vf:callback:evt_acme{n:04}")
    callbacks = Callbacks(redis)
    counted = []
    for _ in range(2):  # as a courier does over and over, whether or not anything is due
        callbacks.claim(1, lease_s=60, share=1)
        counted.append(read_backlog(records).callbacks_dead)
    assert counted == [6, 2], "some at a time"
    assert len(callbacks.dead()) == 2


def test_it_costs_redis_the_same_however_many_wait(records: Records, redis: Redis) -> None:
    def commands() -> int:
        before = redis.info("stats")["total_commands_processed"]
        read_backlog(records)
        return int(redis.info("stats")["total_commands_processed"] - before)

    submitted(records)
    few = commands()
    ids = {f"{n:032x}": n for n in range(20_000)}
    redis.zadd("vf:waiting", ids)
    redis.zadd("vf:queued:low", ids)
    assert read_backlog(records).waiting["low"] == 20_000
    assert commands() == few
