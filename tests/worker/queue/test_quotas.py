"""Limits of one owner, on Redis's clock."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from worker.errors import QueueFull
from worker.queue.quotas import Quotas


def accepted(quotas: Quotas, owner: str, asked: int) -> int:
    def ask(_: int) -> bool:
        try:
            quotas.request(owner)
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(ask, range(asked)))


def test_a_minutes_worth_of_requests_passes_and_no_more(redis: Redis) -> None:
    quotas = Quotas(redis, requests_per_minute=4)
    assert accepted(quotas, "acme", 12) == 4
    assert accepted(quotas, "umbrella", 3) == 3, "every owner has a bucket of its own"
    with pytest.raises(QueueFull) as full:
        quotas.request("acme")
    assert 1 <= full.value.retry_after_s <= 15


def test_the_bucket_fills_evenly_and_refusals_cost_nothing(redis: Redis) -> None:
    quotas = Quotas(redis, requests_per_minute=300)
    assert accepted(quotas, "acme", 300) == 300
    started_s = time.monotonic()
    while accepted(quotas, "acme", 1):
        started_s = time.monotonic()
    came = 0
    while came < 3 and time.monotonic() < started_s + 60:
        came += accepted(quotas, "acme", 1)
        time.sleep(0.01)
    assert came == 3
    assert time.monotonic() - started_s > 0.35, "one every 0.2 s"


def test_an_idle_bucket_is_forgotten(redis: Redis) -> None:
    Quotas(redis, requests_per_minute=1).request("acme")
    assert 0 < redis.pttl("vf:rate:acme") <= 61_000


def test_a_clock_that_was_ahead_and_is_put_back_costs_no_owner_more_than_a_minute(redis: Redis) -> None:
    quotas = Quotas(redis, requests_per_minute=2)
    now_s, _ = redis.time()
    redis.set("vf:rate:acme", (now_s + 3600) * 1_000_000, px=3_661_000)
    with pytest.raises(QueueFull) as full:
        quotas.request("acme")
    assert full.value.retry_after_s <= 60
    full_at_us, (seconds, _) = float(redis.get("vf:rate:acme") or 0), redis.time()
    assert full_at_us <= (seconds + 61) * 1_000_000, "it passes when it comes again as it was told"
    assert redis.pttl("vf:rate:acme") <= 61_000


def test_the_scans_of_a_day(redis: Redis) -> None:
    quotas = Quotas(redis, scans_per_day=10)
    quotas.scans("acme", 7)
    with pytest.raises(QueueFull) as full:
        quotas.scans("acme", 4)
    assert 1 <= full.value.retry_after_s <= 86400
    quotas.give_back("acme", quotas.scans("acme", 3), 2)
    quotas.scans("acme", 2)
    with pytest.raises(QueueFull):
        quotas.scans("acme")
    quotas.scans("umbrella", 10)
    assert 0 < redis.ttl("vf:day:acme") <= 86400


def test_a_new_day_begins_at_nought(redis: Redis) -> None:
    quotas = Quotas(redis, scans_per_day=10)
    quotas.scans("acme", 10)
    redis.hincrby("vf:day:acme", "day", -1)
    quotas.give_back("acme", quotas.scans("acme", 10), 1000)
    quotas.scans("acme", 10)
    with pytest.raises(QueueFull):
        quotas.scans("acme")


def test_what_was_counted_on_the_day_before_is_not_taken_off_this_one(redis: Redis) -> None:
    quotas = Quotas(redis, scans_per_day=3)
    yesterday = quotas.scans("acme", 2) - 1
    redis.hset("vf:day:acme", "day", yesterday)
    quotas.scans("acme", 3)
    quotas.give_back("acme", yesterday, 2)
    with pytest.raises(QueueFull):
        quotas.scans("acme")
