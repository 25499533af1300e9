"""Turns at a site, shared by all workers, on Redis's clock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from redis import Redis

from worker.queue.site_limits import RedisSiteLimiter


def test_workers_together_get_a_minutes_worth(redis: Redis) -> None:
    limiters = [RedisSiteLimiter(redis, per_minute=6) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        waits = sorted(pool.map(lambda i: limiters[i % 4].take("a", f"t{i}"), range(20)))
    assert waits[:6] == [0] * 6
    for number, wait in enumerate(waits[6:], 1):  # each has a turn of its own, ten seconds apart
        assert 10 * number - 5 < wait <= 10 * number
    assert limiters[0].take("b", "t0") == 0


def test_a_turn_is_set_aside_for_its_ticket(redis: Redis) -> None:
    limiter = RedisSiteLimiter(redis, per_minute=60)
    while not limiter.take("a", "mine"):
        pass
    others = [limiter.take("a", f"u{i}") for i in range(50)]
    assert max(others) > 2
    while (wait_s := limiter.take("a", "mine")) > 0:
        assert wait_s <= 1
    assert redis.exists("vf:site:a:turn:mine") == 0


def test_one_worker_holds_a_site_for_all(redis: Redis) -> None:
    RedisSiteLimiter(redis, per_minute=6).hold("a", 90)
    other = RedisSiteLimiter(redis, per_minute=6)
    other.hold("a", 1)  # a shorter wait does not end a longer one
    assert 60 < other.take("a", "t") <= 90
    assert other.take("b", "t") == 0


def test_who_comes_while_a_site_is_held_has_a_turn_behind_that(redis: Redis) -> None:
    """All at its end, a long queue would be claimed and handed back in vain for each answer of 429."""
    limiter = RedisSiteLimiter(redis, per_minute=30)
    limiter.hold("a", 60)
    waits = [limiter.take("a", f"t{i}") for i in range(100)]
    assert all(50 < wait <= 60 for wait in waits[:30])
    for number, wait in enumerate(waits[30:], 1):
        assert 50 + 2 * number < wait <= 60 + 2 * number


def test_turns_that_are_set_aside_keep_their_distance_over_a_hold(redis: Redis) -> None:
    limiter = RedisSiteLimiter(redis, per_minute=6)
    waits = [limiter.take("a", f"t{i}") for i in range(9)]
    limiter.hold("a", 30)
    limiter.hold("a", 90)
    for number, wait in list(enumerate(waits))[6:]:
        assert 80 < limiter.take("a", f"t{number}") - wait <= 91
    assert 110 < limiter.take("a", "new") <= 131
    redis.delete("vf:site:a:hold")  # as when it is over, but 90 s earlier by the other clock
    assert 110 < limiter.take("a", "new") <= 131


def test_how_long_a_clock_stood_is_known_as_long_as_the_farthest_turn(redis: Redis) -> None:
    """Also where nobody asks until then: all would come back at once, by the length of the hold too early."""
    limiter = RedisSiteLimiter(redis, per_minute=1)
    for number in range(100):
        limiter.take("x", f"t{number}")
    limiter.hold("x", 60.0)
    assert redis.pttl("vf:site:x:stood") >= redis.pttl("vf:site:x:turn:t99") > 95 * 60_000


def test_nothing_is_left_in_redis_for_good(redis: Redis) -> None:
    limiter = RedisSiteLimiter(redis, per_minute=1)
    limiter.take("a", "p")
    limiter.take("a", "q")
    limiter.hold("a", 5)
    names = redis.keys("*")
    assert len(names) == 4
    assert all(0 < redis.pttl(name) <= 2_000_000 for name in names)


def test_a_short_hold_ends(redis: Redis) -> None:
    limiter = RedisSiteLimiter(redis, per_minute=60)
    limiter.hold("a", 0.05)
    while limiter.take("a", "t"):
        pass
