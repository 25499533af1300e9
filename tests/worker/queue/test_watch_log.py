"""Cursors and events on a real Redis: each window once, in order, by the attempt that holds the watch."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from worker.errors import DamagedRecord, LeaseLost
from worker.queue.callbacks import Callbacks
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.record import Claim, Purge
from worker.queue.records import Records
from worker.queue.requests import RequestSource, ScanRequest
from worker.queue.watch_log import WatchLog
from worker.types import Json, Label
from worker.watch.events import WatchEvent, WindowResult


def window(number: int) -> WindowResult:
    return WindowResult(number=number, start_ms=number, end_ms=number + 1, verdict=Label.REAL, frames=1, with_face=0)


def event(number: int, of_window: int = 0) -> WatchEvent:
    return WatchEvent(kind="track_seen", number=number, window=of_window, t_ms=5, track=0, detail={"reasons": [], "far": 0.1})


class Watch:
    """A watch that is under way."""

    def __init__(self, redis: Redis, kept: int = 100, **more: object) -> None:
        self.records = Records(redis, "vf")
        self.desk = Desk(self.records, Doorbells(redis))
        self.log = WatchLog(redis, "vf", kept=kept)
        request = ScanRequest(kind="watch", source=RequestSource(url="https://a.example/live"), **more)  # type: ignore[arg-type]
        self.id = self.desk.submit_one(request, "acme").id
        self.claim = self.take()

    def take(self) -> Claim:
        claim = self.records.claim(self.id, "w")
        assert isinstance(claim, Claim), claim
        assert claim.is_watch
        return claim

    def store(self, number: int, *numbers: int, cursor: Json | None = None, claim: Claim | None = None) -> bool:
        events = [event(one, number) for one in numbers]
        held = claim or self.claim
        return self.log.store(held, self.records.get(self.id), window(number), events, cursor or {"n": number}, 0.5)

    def numbers(self, **more: int) -> list[int]:
        return [one.number for one in self.log.page(self.id, **more).events]


def test_cursor_and_events_are_kept_together(redis: Redis) -> None:
    watch = Watch(redis)
    assert watch.log.cursor(watch.id) is None
    assert watch.log.page(watch.id).events == ()
    assert not watch.store(0, 0, 1, cursor={"position": [1.5, None], "empty": []})
    assert watch.log.cursor(watch.id) == {"position": [1.5, None], "empty": []}
    watch.store(1)
    watch.store(2, 2)
    assert watch.log.page(watch.id).events == (event(0), event(1), event(2, 2))
    record = watch.records.get(watch.id)
    assert (record.state, record.stage, record.progress) == ("running", "watch", 0.5)


@pytest.mark.parametrize("stored", ["[]", "7", "[" * 100_000, "\xff", ""])
def test_what_is_no_cursor_is_damaged(stored: str, redis: Redis) -> None:
    watch = Watch(redis)
    redis.set(f"vf:cursor:{watch.id}", stored)
    with pytest.raises(DamagedRecord):
        watch.log.cursor(watch.id)


def test_a_window_that_is_sent_again_is_kept_once(redis: Redis) -> None:
    watch = Watch(redis)
    for _ in range(2):
        watch.store(0, 0, cursor={"n": "first"})
    watch.store(0, 1, cursor={"n": "other"})
    assert watch.numbers() == [0]
    assert watch.log.cursor(watch.id) == {"n": "first"}


@pytest.mark.parametrize(("number", "events"), [(2, [1]), (1, [2]), (1, [0]), (1, [1, 3])])
def test_a_gap_is_refused_whole(redis: Redis, number: int, events: list[int]) -> None:
    watch = Watch(redis)
    watch.store(0, 0)
    with pytest.raises(DamagedRecord):
        watch.store(number, *events)
    assert watch.numbers() == [0]
    assert watch.log.cursor(watch.id) == {"n": 0}
    watch.store(1, 1)
    assert watch.numbers() == [0, 1]


def test_an_overtaken_attempt_can_write_nothing(redis: Redis) -> None:
    watch = Watch(redis)
    watch.records.hand_back(watch.claim)
    new = watch.take()
    with pytest.raises(LeaseLost):
        watch.store(0, 0)
    assert watch.numbers() == []
    watch.store(0, 0, claim=new)
    assert watch.numbers() == [0]


def test_crops_are_noted_by_the_attempt_that_holds_the_watch_and_go_with_its_end(redis: Redis) -> None:
    watch = Watch(redis)
    watch.log.note_crops(watch.claim, [])
    watch.log.note_crops(watch.claim, {"t0-1.jpg", "t1-5.jpg"})
    watch.records.hand_back(watch.claim)
    new = watch.take()
    with pytest.raises(LeaseLost):
        watch.log.note_crops(watch.claim, {"t2-9.jpg"})
    watch.log.note_crops(new, {"t1-5.jpg", "t3-7.jpg"})
    assert watch.log.crops(watch.id) == {"t0-1.jpg", "t1-5.jpg", "t3-7.jpg"}
    watch.records.fail(new, code="internal", message="", retryable=False)
    for late in (watch.claim, new):
        with pytest.raises(LeaseLost):
            watch.log.note_crops(late, {"t2-9.jpg"})
    assert redis.exists(f"vf:crops:{watch.id}") == 0


def test_events_are_read_page_by_page_and_the_oldest_may_be_gone(redis: Redis) -> None:
    watch = Watch(redis, kept=5)
    for number in range(12):
        watch.store(number, number)
    page = watch.log.page(watch.id, limit=2)
    assert ([one.number for one in page.events], page.oldest, page.count) == ([7, 8], 7, 12)
    assert watch.numbers(after=8) == [9, 10, 11]
    assert watch.numbers(after=3, limit=1) == [7]
    assert watch.numbers(after=11) == watch.numbers(after=99) == watch.numbers(after=10**20) == []
    assert watch.numbers(limit=0) == watch.numbers(limit=-1) == []


def test_a_window_makes_the_attempt_as_good_as_the_first(redis: Redis) -> None:
    """A watch of hours is not given up for three mishaps in all, only for three without a window in between."""
    watch = Watch(redis)
    for number in range(5):
        watch.store(number)
        assert watch.records.fail(watch.claim, code="internal", message="", retryable=True).how == "again"
        redis.hset(f"vf:scan:{watch.id}", "not_before_ms", 0)
        watch.claim = watch.take()
    hows = []
    for _ in range(2):
        hows.append(watch.records.fail(watch.claim, code="internal", message="", retryable=True).how)
        redis.hset(f"vf:scan:{watch.id}", "not_before_ms", 0)
        if hows[-1] == "again":
            watch.claim = watch.take()
    assert hows == ["again", "dead"]


def test_each_event_is_called_back_under_an_id_of_its_own(redis: Redis) -> None:
    watch, first = Watch(redis, callback_url="https://b.example/hook", external_id='post "7"'), "0f" * 16
    redis.hset(f"vf:scan:{watch.id}", "retry_of", first)
    watch.store(0, 0, 1)
    watch.store(0, 0, 1)
    callbacks = Callbacks(redis, "vf")
    assert callbacks.pending() == 2
    found = callbacks.show(f"evt_{watch.id}_1")
    assert found is not None
    assert (found.type, found.owner, found.url) == ("scan.track_seen", "acme", "https://b.example/hook")
    body = json.loads(found.body)
    told = {"id": watch.id, "retry_of": first, "external_id": 'post "7"', "number": 1, "window": 0, "t_ms": 5, "track": 0}
    assert body["type"] == "scan.track_seen"
    assert body["data"] == told | {"verdict": None, "score": None, "detail": {"reasons": [], "far": 0.1}}


def test_nobody_is_called_who_did_not_ask(redis: Redis) -> None:
    watch = Watch(redis)
    watch.store(0, 0)
    assert Callbacks(redis, "vf").pending() == 0


def test_a_running_watch_hears_of_its_cancelling_with_the_next_window(redis: Redis) -> None:
    watch = Watch(redis)
    assert not watch.store(0, 0)
    assert watch.desk.cancel(watch.id, "acme") == "running"
    assert watch.store(1, 1)
    assert watch.store(1, 1), "sent again, too"


def test_one_cancelled_between_two_slices_waits_for_its_report(redis: Redis) -> None:
    watch = Watch(redis)
    watch.store(0, 0)
    watch.records.hand_back(watch.claim)
    for _ in range(2):
        assert watch.desk.cancel(watch.id, "acme") == "queued"
    assert watch.desk.record(watch.id, "acme").cancel
    watch.claim = watch.take()
    assert watch.records.hand_back(watch.claim).how == "queued", "also where that worker goes away"
    watch.claim = watch.take()
    (lease_ms,) = watch.records.redis.zrange("vf:leases", 0, -1, withscores=True)[0][1:]
    assert watch.records.expire(watch.id, int(lease_ms)).how == "again", "or dies"
    watch.claim = watch.take()
    assert watch.records.fail(watch.claim, code="internal", message="", retryable=True).how == "again", "or its process"
    assert watch.desk.record(watch.id, "acme").cancel


def test_one_cancelled_before_its_first_window_is_cancelled(redis: Redis) -> None:
    watch = Watch(redis)
    watch.records.hand_back(watch.claim)
    assert watch.desk.cancel(watch.id, "acme") == "cancelled"


@pytest.mark.parametrize(("windows", "hows"), [(0, ["cancelled"]), (1, ["again", "again", "cancelled"])])
def test_one_that_was_cancelled_is_tried_only_for_its_report_and_only_so_often(
    windows: int, hows: list[str], redis: Redis
) -> None:
    watch = Watch(redis)
    for number in range(windows):
        watch.store(number)
    watch.desk.cancel(watch.id, "acme")
    for how in hows:
        assert watch.records.fail(watch.claim, code="internal", message="cancelled", retryable=True).how == how
        redis.hset(f"vf:scan:{watch.id}", "not_before_ms", 0)
        if how == "again":
            watch.claim = watch.take()
    assert watch.desk.record(watch.id, "acme").state == "cancelled"
    assert redis.exists(f"vf:cursor:{watch.id}") == 0


def test_an_ended_watch_keeps_its_events_and_drops_its_cursor(redis: Redis) -> None:
    watch = Watch(redis, callback_url="https://b.example/hook")
    watch.store(0, 0)
    watch.records.fail(watch.claim, code="internal", message="", retryable=False)
    assert watch.numbers() == [0]
    assert 0 < redis.ttl(f"vf:events:{watch.id}") <= watch.records.terms.keep_s
    assert redis.exists(f"vf:cursor:{watch.id}") == 0
    redis.hset(f"vf:callback:evt_{watch.id}_0", "state", "delivered")
    assert watch.records.purge([watch.id], Purge(), really=True) == 1
    assert [key.decode() for key in redis.keys("vf:*") if watch.id.encode() in key] == [f"vf:callback:evt_{watch.id}"], (
        "still owed"
    )
