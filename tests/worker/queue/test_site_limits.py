"""Turns at a site, shared by all workers, on Redis's clock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from redis import Redis

from worker.queue.site_limits import RedisSiteLimiter


def test_workers_together_get_a_minutes_worth(redis: Redis) -> None:
    limiters = [RedisSiteLimiter(redis, per_minute=6) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        waits = list(pool.map(lambda i: limiters[i % 4].take("a"), range(20)))
    assert sum(wait == 0 for wait in waits) == 6
    assert all(0 < wait <= 10 for wait in waits if wait)
    assert limiters[0].take("b") == 0


def test_one_worker_holds_a_site_for_all(redis: Redis) -> None:
    RedisSiteLimiter(redis, per_minute=6).hold("a", 90)
    other = RedisSiteLimiter(redis, per_minute=6)
    assert 80 < other.take("a") <= 90
    other.hold("a", 1)  # a shorter wait does not end a longer one
    assert 80 < other.take("a") <= 90
    assert other.take("b") == 0
    assert 0 < redis.pttl("vf:site:a") <= 160_000


def test_nothing_is_left_in_redis_for_good(redis: Redis) -> None:
    RedisSiteLimiter(redis, per_minute=6).take("a")
    assert 0 < redis.pttl("vf:site:a") <= 61_000


def test_a_short_hold_ends(redis: Redis) -> None:
    limiter = RedisSiteLimiter(redis, per_minute=60)
    limiter.hold("a", 0.05)
    while limiter.take("a"):
        pass
