"""Pauses between tries, and when there are no more."""

from __future__ import annotations

import pytest

from tests.worker.source.live.streams import Clock
from worker.errors import FetchGone, FetchRateLimited, FetchTimeout
from worker.source.live.patience import LONGEST_ASKED_S, Patience


def test_pauses_grow_and_begin_anew_once_somebody_answers() -> None:
    clock = Clock()
    patience = Patience(60, now=clock.now, sleep=clock.sleep)
    away = FetchTimeout("away")
    assert [patience.failed(away) for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]
    patience.answered()
    assert patience.failed(away) == 0.5


def test_a_server_that_asks_for_a_pause_gets_one() -> None:
    patience = Patience(600)
    assert patience.failed(FetchRateLimited("later", retry_after_s=12)) == 12
    assert patience.failed(FetchRateLimited("later", retry_after_s=9999)) == LONGEST_ASKED_S
    assert patience.failed(FetchRateLimited("later")) == 2


def test_what_cannot_mend_itself_is_tried_again_only_if_it_was_there() -> None:
    clock = Clock()
    patience = Patience(60, now=clock.now, sleep=clock.sleep)
    with pytest.raises(FetchGone):
        patience.failed(FetchGone("gone"))
    patience.came()
    assert patience.failed(FetchGone("gone")) == 0.5
    list(patience.wait(60))
    with pytest.raises(FetchGone):
        patience.failed(FetchGone("gone"))
    with pytest.raises(FetchTimeout):
        patience.check()


def test_whoever_waits_is_asked_in_small_steps() -> None:
    clock = Clock()
    patience = Patience(60, now=clock.now, sleep=clock.sleep)
    assert len(list(patience.wait(1))) == 5
    assert clock.now_s == pytest.approx(1)
