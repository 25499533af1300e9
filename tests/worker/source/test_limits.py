from __future__ import annotations

import pytest

from worker.queue.site_limits import RedisSiteLimiter
from worker.source.limits import KEPT_S, LocalSiteLimiter
from worker.source.social import HOLD_S


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def limiter(clock: list[float]) -> LocalSiteLimiter:
    return LocalSiteLimiter(per_minute=3, now=lambda: clock[0])


def test_a_minutes_worth_at_once_then_evenly(limiter: LocalSiteLimiter) -> None:
    assert [limiter.take("a", ticket) for ticket in "pqrst"] == [0, 0, 0, pytest.approx(20), pytest.approx(40)]
    assert limiter.take("b", "p") == 0


def test_a_turn_is_set_aside_for_its_ticket(limiter: LocalSiteLimiter, clock: list[float]) -> None:
    for ticket in "pqrst":
        limiter.take("a", ticket)
    assert limiter.take("a", "t") == pytest.approx(40)  # asking again costs nothing
    clock[0] += 20
    assert limiter.take("a", "u") == pytest.approx(40)
    assert limiter.take("a", "s") == 0
    assert limiter.take("a", "s") == pytest.approx(60)  # its turn is taken: a new one


def test_a_site_that_wants_to_be_left_alone_is(limiter: LocalSiteLimiter, clock: list[float]) -> None:
    limiter.hold("a", 30)
    limiter.hold("a", 10)
    assert limiter.take("a", "p") == pytest.approx(30)
    assert limiter.take("b", "p") == 0
    clock[0] += 30
    assert limiter.take("a", "p") == 0


def test_turns_that_nobody_comes_for_are_forgotten(limiter: LocalSiteLimiter, clock: list[float]) -> None:
    for ticket in "pqrs":
        limiter.take("a", ticket)
    clock[0] += 20 + KEPT_S + 1
    for ticket in "tuvwx":
        limiter.take("a", ticket)
    assert {ticket for _, ticket in limiter._turns} == {"w", "x"}


def test_a_site_that_said_nothing_of_how_long_is_waited_for_where_no_queue_is_to_go_back_to() -> None:
    assert RedisSiteLimiter.longest_wait_s < HOLD_S < LocalSiteLimiter(per_minute=1).longest_wait_s
