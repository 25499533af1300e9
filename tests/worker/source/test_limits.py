from __future__ import annotations

import pytest

from worker.source.limits import LocalSiteLimiter


def test_a_minutes_worth_at_once_then_evenly() -> None:
    clock = [100.0]
    limiter = LocalSiteLimiter(per_minute=3, now=lambda: clock[0])
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(20)]
    assert limiter.take("b") == 0
    clock[0] += 20
    assert [limiter.take("a") for _ in range(2)] == [0, pytest.approx(20)]


def test_a_site_that_wants_to_be_left_alone_is() -> None:
    clock = [100.0]
    limiter = LocalSiteLimiter(per_minute=3, now=lambda: clock[0])
    limiter.hold("a", 30)
    assert limiter.take("a") == pytest.approx(30)
    assert limiter.take("b") == 0
    clock[0] += 30
    assert [limiter.take("a") for _ in range(2)] == [0, pytest.approx(20)]
