"""Whose turn it is, and when a try counts."""

from __future__ import annotations

from collections import Counter

import pytest
from redis import Redis

from tests.worker.queue.record_steps import request
from worker.queue.callbacks import Callbacks, Parcel
from worker.queue.record import Submission
from worker.queue.records import Records


def fill(redis: Redis, owner: str, number: int, *, due_ms: int = 1) -> None:
    """What the records' scripts write; due long ago."""
    with redis.pipeline() as pipeline:
        for n in range(number):
            event = f"evt_{owner}{n:04}"
            fields = {
                "scan": "s",
                "owner": owner,
                "url": "http://h/",
                "type": "t",
                "body": "{}",
                "last_error": "",
                "created_ms": 1,
            }
            pipeline.hset(
                f"vf:callback:{event}",
                mapping={**fields, "tries": 0, "state": "waiting", "fence": 0},
            )
            pipeline.zadd("vf:callbacks", {event: due_ms})
        pipeline.execute()


def give_up(redis: Redis, owner: str, number: int, *, at_ms: int = 0) -> None:
    """What couriers write of those that nobody took; ``at_ms``: all at one moment, else one after the other."""
    fill(redis, owner, number)
    with redis.pipeline() as pipeline:
        for n in range(number):
            event = f"evt_{owner}{n:04}"
            pipeline.hset(f"vf:callback:{event}", "state", "dead")
            pipeline.zrem("vf:callbacks", event)
            pipeline.zadd("vf:callbacks:dead", {event: at_ms or 1000 + n})
        pipeline.execute()


def claim(redis: Redis, count: int = 8, **under_way: int) -> tuple[list[Parcel], float | None]:
    return Callbacks(redis).claim(count, lease_s=60, share=4, under_way=under_way)


def owners(parcels: list[Parcel]) -> Counter[str]:
    return Counter(parcel.owner for parcel in parcels)


def test_one_owners_many_leave_hands_for_anothers(redis: Redis) -> None:
    fill(redis, "many", 200)
    fill(redis, "few", 2, due_ms=2)
    parcels, _ = claim(redis)
    assert owners(parcels) == {"many": 4, "few": 2}


def test_a_share_of_one_is_one_of_each_owner(redis: Redis) -> None:
    fill(redis, "many", 3)
    fill(redis, "few", 1)
    assert owners(Callbacks(redis).claim(4, lease_s=60, share=1, under_way={})[0]) == {"many": 1, "few": 1}


def test_one_receivers_many_leave_a_hand_for_its_owners_others(redis: Redis) -> None:
    fill(redis, "acme", 200)
    redis.hset("vf:callback:evt_acme0100", "url", "https://u@other:8443/x?y")
    redis.hset("vf:callback:evt_acme0001", "url", "http://H?z")  # the same host
    callbacks = Callbacks(redis)
    parcels, _ = callbacks.claim(8, lease_s=60, share=4, at_one=3)
    assert Counter(parcel.receiver for parcel in parcels) == {"acme h": 3, "acme u@other:8443": 1}
    assert callbacks.claim(4, lease_s=60, share=4, at_one=3, under_way={"acme": 3, "acme h": 3})[0] == []


def test_a_hand_that_becomes_free_goes_first_to_a_receiver_that_has_none(redis: Redis) -> None:
    """Two that hang have all of their owner's hands, and more that is due than the third: a try of theirs has ended."""
    fill(redis, "acme", 200)
    for number in range(100, 200):
        redis.hset(f"vf:callback:evt_acme{number:04}", "url", "http://second/")
    fill(redis, "acme3", 2, due_ms=2)
    for number in range(2):
        redis.hset(f"vf:callback:evt_acme3{number:04}", mapping={"url": "http://third/", "owner": "acme"})
    callbacks = Callbacks(redis)
    hanging = {"acme": 3, "acme h": 2, "acme second": 1}
    parcels, _ = callbacks.claim(1, lease_s=60, share=4, at_one=3, under_way=hanging)
    assert [parcel.receiver for parcel in parcels] == ["acme third"]
    parcels, _ = callbacks.claim(3, lease_s=60, share=4, at_one=3)
    assert [parcel.receiver for parcel in parcels] == ["acme h", "acme second", "acme third"]
    one_each = {"acme": 3, "acme h": 1, "acme second": 1, "acme third": 1}
    parcels, _ = callbacks.claim(1, lease_s=60, share=4, at_one=3, under_way=one_each)
    assert [parcel.receiver for parcel in parcels] == ["acme h"], "of those that have some, what has been due longest"


def test_an_end_that_is_told_again_ends_nothing_that_was_played_again_since(redis: Redis) -> None:
    """Redis's answer may be lost, and the end comes again."""
    fill(redis, "acme", 1)
    callbacks = Callbacks(redis)
    (parcel,), _ = claim(redis)
    for _ in range(2):
        assert callbacks.give_up(parcel, error="gone", keep_s=60)
    assert callbacks.replay(parcel.id)
    callbacks.give_up(parcel, error="gone", keep_s=60)
    assert (callbacks.dead(), callbacks.pending()) == ([], 1)


def test_more_than_a_look_sees_are_put_off_until_anothers_are_found(redis: Redis) -> None:
    fill(redis, "many", 700)
    fill(redis, "few", 2, due_ms=2)
    assert owners(claim(redis)[0]) == {"many": 4}
    looks = 1
    while not (found := claim(redis, 4, many=4))[0]:
        assert found[1] == 0.01, "there is more to see: look again soon"
        looks += 1
        assert looks < 10
    assert owners(found[0]) == {"few": 2}
    assert Callbacks(redis).pending() == 702
    now_s, _ = redis.time()
    last_ms = redis.zrange("vf:callbacks", -5, -5, withscores=True)[0][1]
    assert last_ms < (now_s + 61) * 1000, "all are due within seconds, but for those that were taken"
    assert redis.zcount("vf:callbacks", "-inf", (now_s + 4) * 1000) == 696


def test_a_receiver_that_has_none_is_found_behind_more_than_a_look_sees(redis: Redis) -> None:
    """Two that hang, more due of theirs, and no hand free but the one that a try of theirs had."""
    fill(redis, "acme", 700)
    for number in range(0, 700, 2):
        redis.hset(f"vf:callback:evt_acme{number:04}", "url", "http://second/")
    fill(redis, "acme3", 1, due_ms=2)
    redis.hset("vf:callback:evt_acme30000", mapping={"url": "http://third/", "owner": "acme"})
    hanging = {"acme": 3, "acme h": 2, "acme second": 1}
    found = [Callbacks(redis).claim(1, lease_s=60, share=4, at_one=3, under_way=hanging)[0][0].receiver for _ in range(3)]
    assert found == ["acme second", "acme second", "acme third"]


def test_nothing_is_put_off_where_nothing_is_hidden(redis: Redis) -> None:
    """An owner that is alone is never kept waiting."""
    fill(redis, "many", 200)
    claim(redis)
    claim(redis, 4, many=4)
    assert redis.zcount("vf:callbacks", 1, 1) == 196


def test_a_try_counts_when_it_begins_and_only_once(redis: Redis) -> None:
    fill(redis, "acme", 1)
    callbacks = Callbacks(redis)
    (parcel,), _ = claim(redis)

    def tries() -> int:
        found = callbacks.show(parcel.id)
        assert found is not None
        return found.tries

    assert (parcel.tries, tries()) == (1, 0)
    for _ in range(2):  # Redis's answer may be lost, and the question comes again
        assert callbacks.begin(parcel)
        assert tries() == 1
    redis.zadd("vf:callbacks", {parcel.id: 1})
    (later,), _ = claim(redis)
    assert later.tries == 2
    assert not callbacks.begin(parcel), "it is another courier's now"
    assert tries() == 1
    assert callbacks.try_again(later, wait_s=0, error="failed before it was sent")
    assert tries() == 2


def test_one_that_is_owed_anew_is_nobodys_and_has_no_time_limit(redis: Redis) -> None:
    """An event of a scan whose record Redis forgot, and that was submitted once more under its id."""
    records, callbacks = Records(redis), Callbacks(redis)
    submission = Submission(request=request(callback_url="https://example.org/hook"), owner="acme")

    def ended() -> Parcel:
        redis.delete(f"vf:scan:{submission.id}")
        records.submit([submission])
        records.cancel(submission.id)
        (parcel,), _ = claim(redis)
        return parcel

    first = ended()
    second = ended()
    assert not callbacks.delivered(first, keep_s=60)
    assert callbacks.delivered(second, keep_s=60)
    third = ended()
    assert redis.ttl(f"vf:callback:{third.id}") == -1
    assert not callbacks.try_again(second, wait_s=60, error="status 500")


@pytest.mark.parametrize("at_ms", [0, 5000])
def test_one_owners_dead_hide_nobody_elses(redis: Redis, at_ms: int) -> None:
    give_up(redis, "few", 3, at_ms=1)
    give_up(redis, "many", 2300, at_ms=at_ms)
    callbacks = Callbacks(redis)
    assert [one.id for one in callbacks.dead(2, owner="few")] == ["evt_few0002", "evt_few0001"]
    assert {one.owner for one in callbacks.dead(50)} == {"many"}
    assert len(callbacks.dead(5000)) == 2303
    assert callbacks.dead(owner="nobody") == []
    assert callbacks.replay_some(["evt_few0000", "evt_many0000", "evt_unknown", "evt_few0000"], owner="few") == 1
    assert callbacks.replay_some(["evt_few0000"]) == callbacks.replay_some([]) == 0, "it is not dead any more"
    assert callbacks.replay_latest(owner="many") == 2300
    assert [one.id for one in callbacks.dead()] == ["evt_few0002", "evt_few0001"]
    assert callbacks.replay_latest() == 2
    assert redis.zcard("vf:callbacks") == 2303
