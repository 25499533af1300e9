"""Many scans at once: purge leaves nothing behind, a rescan or replay done twice is done once."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from tests.worker.queue.record_steps import request
from tests.worker.queue.scans import NEW_MODEL, OLD_MODEL, claim, complete, fail, report, submit, watched
from worker.errors import BadRequest, LeaseLost, NoSuchScan, RedisDown
from worker.queue.bulk import Bulk
from worker.queue.callbacks import Callbacks
from worker.queue.desk import PAGE, Decision, Desk
from worker.queue.doorbell import Doorbells
from worker.queue.quotas import Quotas
from worker.queue.record import FINAL, Claim, Purge, Submission, Submitted, Terms
from worker.queue.records import Records


@pytest.fixture
def bulk(desk: Desk) -> Bulk:
    return Bulk(desk=desk)


def our_keys(redis: Redis) -> set[bytes]:
    return set(redis.keys("vf:*")) - {b"vf:open", b"vf:ended"}


def test_nothing_of_a_purged_scan_is_left(desk: Desk, bulk: Bulk, redis: Redis) -> None:
    scan_id = submit(desk, idempotency_key="k")
    complete(desk.records, scan_id)
    dead = submit(desk, idempotency_key="l", callback_url="https://example.org/hook")
    fail(desk.records, dead, dead=True)
    (parcel,), _ = Callbacks(redis).claim(1, lease_s=60, share=1, under_way={})
    Callbacks(redis).give_up(parcel, error="gone", keep_s=60)
    assert bulk.purge(Purge(), really=False) == 2
    assert desk.count(None) == 2
    assert bulk.purge(Purge(), really=True) == 2
    assert our_keys(redis) == set()
    assert bulk.purge(Purge(), really=True) == 0


def test_a_stream_that_is_over_is_not_watched_again(desk: Desk, bulk: Bulk) -> None:
    watch, scan = watched(desk, 1), submit(desk)
    for scan_id in (watch, scan):
        complete(desk.records, scan_id)
    assert [redone.old for redone in bulk.rescan(NEW_MODEL)] == [scan]


def test_what_has_not_ended_is_never_purged(desk: Desk, bulk: Bulk) -> None:
    waiting, running = submit(desk), submit(desk, "https://example.org/b.mp4")
    held = claim(desk.records, running)
    wanted = Purge(states=FINAL | {"queued", "running"})
    assert bulk.purge(wanted, really=True) == desk.records.purge([waiting, running], wanted, really=True) == 0
    desk.records.finish(held, report(running))
    assert {report.status for report in desk.each(None)} == {"queued", "completed"}


def test_what_others_need_stays(desk: Desk, bulk: Bulk, redis: Redis) -> None:
    first, later = submit(desk, callback_url="https://example.org/hook"), submit(desk)
    for scan_id in (first, later):
        claimed = claim(desk.records, scan_id)
        desk.records.settle(claimed, "ab" * 32, "key")
        desk.records.finish(claimed, report(scan_id))
    desk.decide(first, None, Decision(verdict="real", by="ada"))
    assert redis.get("vf:result:key") == first.encode()
    assert desk.records.purge([later], Purge(), really=True) == 1
    assert redis.get("vf:result:key") == first.encode(), "another scan's result"
    assert desk.records.purge([first], Purge(), really=True) == 1
    assert redis.get("vf:result:key") is None
    assert redis.zcard("vf:callbacks") == redis.exists(f"vf:callback:evt_{first}") == 1
    assert len(desk.audit(None)) == 1
    again = submit(desk)
    complete(desk.records, again)
    assert desk.report(again, None).verdict == "real", "the decision outlives the scan"


def test_a_purged_scans_key_may_be_used_again(desk: Desk) -> None:
    first = submit(desk, idempotency_key="k")
    desk.cancel(first, None)
    desk.records.purge([first], Purge(), really=True)
    assert submit(desk, "https://example.org/other.mp4", idempotency_key="k") != first


@pytest.mark.parametrize("is_dead", [True, False])
def test_what_is_made_again_after_a_purge_is_another_scan_with_an_event_of_its_own(
    desk: Desk, bulk: Bulk, redis: Redis, is_dead: bool
) -> None:
    def again() -> tuple[str, str, bool]:
        (one,) = bulk.replay_dead() if is_dead else bulk.rescan(NEW_MODEL)
        return one.old, one.new.id, one.new.created

    def end(scan_id: str) -> None:
        complete(desk.records, scan_id) if is_dead else fail(desk.records, scan_id)

    old = submit(desk, callback_url="https://example.org/hook")
    fail(desk.records, old, dead=True) if is_dead else complete(desk.records, old)
    made: list[str] = []
    for _ in range(3):
        _, scan_id, _ = told = again()
        assert told == (old, scan_id, True)
        if is_dead:
            assert bulk.replays([old]) == {old: scan_id}
        end(scan_id)
        assert again() == (old, scan_id, False), "done twice, it is the same scan"
        states = frozenset({"completed" if is_dead else "failed"})
        assert bulk.purge(Purge(states=states), really=True) == 1
        made.append(scan_id)
    parcels, _ = Callbacks(redis).claim(9, lease_s=60, share=9, under_way={})
    owed = sorted((parcel.id, json.loads(parcel.body)["data"]["id"]) for parcel in parcels)
    assert owed == sorted((f"evt_{scan_id}", scan_id) for scan_id in (old, *made)), "none is overwritten"
    claim(desk.records, again()[1])
    for scan_id in made:
        with pytest.raises(LeaseLost):
            desk.records.finish(Claim(id=scan_id, attempt=1), report(scan_id))


def test_a_replay_that_does_not_see_the_purge_of_an_earlier_one_makes_nothing(desk: Desk, redis: Redis) -> None:
    first = submit(desk)
    again = Submission(request=request(), owner="acme", retry_of=first)
    for is_new in (True, False):
        (made,) = desk.send([again])
        assert (made.id, made.created, made.refusal) == (again.id, is_new, None)
        if is_new:
            desk.cancel(again.id, None)
            desk.records.purge([again.id], Purge(), really=True)
    assert not redis.exists(f"vf:scan:{again.id}")
    desk.cancel(first, None)
    desk.records.purge([first], Purge(), really=True)
    assert our_keys(redis) == set()


def test_of_what_is_purged_before_it_is_submitted_anew_nothing_is_made(desk: Desk, redis: Redis) -> None:
    old, kept, other = (submit(desk) for _ in range(3))
    for scan_id in (old, kept, other):
        fail(desk.records, scan_id, dead=True)

    class Slow(Desk):
        def send(self, submissions: Sequence[Submission]) -> list[Submitted]:
            """Somebody else was quicker: theirs ended, and all of it is purged."""
            (theirs, *_) = super().send(submissions)
            complete(desk.records, theirs.id)
            desk.records.purge([theirs.id, str(submissions[0].retry_of)], Purge(), really=True)
            return super().send(submissions)

    slow = Slow(desk.records, Doorbells(redis, "vf"))
    bulk = Bulk(desk=slow, quotas=Quotas(redis))
    assert [(one.old, one.new.created) for one in bulk.replay([old, kept])] == [(kept, True)]
    assert redis.hget("vf:day:acme", "scans") == b"1"
    with pytest.raises(NoSuchScan):
        slow.retry(other, "acme")
    assert redis.zcard("vf:waiting") == 1, "only what was made of the one that was kept"


def test_only_what_is_wanted_is_purged(desk: Desk, bulk: Bulk, redis: Redis) -> None:
    old, new, corrupt, dead, theirs = (submit(desk, owner="zenith" if n == 4 else "acme") for n in range(5))
    complete(desk.records, old)
    complete(desk.records, new)
    complete(desk.records, theirs)
    fail(desk.records, corrupt)
    fail(desk.records, dead, dead=True)
    redis.hset(f"vf:scan:{old}", "finished_ms", 1000)

    def purged(**wanted: object) -> set[str]:
        before = {report.id for report in desk.each(None)}
        bulk.purge(Purge(**wanted), really=True)  # type: ignore[arg-type]
        return before - {report.id for report in desk.each(None)}

    assert purged(before_ms=2000) == {old}
    assert purged(dead_only=True) == {dead}
    assert purged(states=frozenset({"failed"})) == {corrupt}
    assert purged(owner="zenith") == {theirs}
    assert purged() == {new}


def test_more_than_a_page_is_purged_while_others_come_in(desk: Desk, redis: Redis) -> None:
    for _ in range(PAGE + 20):
        desk.cancel(submit(desk), None)

    looked: list[int] = []

    def on_looked(count: int) -> None:
        looked.append(count)
        submit(desk, "https://example.org/new.mp4")

    assert Bulk(desk=desk, on_looked=on_looked).purge(Purge(), really=True) == PAGE + 20
    assert sum(looked) == PAGE + 20
    assert redis.zcard("vf:index") == redis.zcard("vf:index:acme") == 2


def test_entries_of_what_redis_has_forgotten_go_with_it(desk: Desk, redis: Redis) -> None:
    scan_id = submit(desk)
    desk.cancel(scan_id, None)
    redis.delete(f"vf:scan:{scan_id}")
    assert Bulk(desk=desk, owner="acme").purge(Purge(owner="acme"), really=True) == 0
    assert redis.zcard("vf:index") == redis.zcard("vf:index:acme") == 0


def test_a_callback_that_was_given_up_outlives_its_record_whatever_is_purged(desk: Desk, bulk: Bulk, redis: Redis) -> None:
    scan_id = submit(desk, callback_url="https://example.org/hook")
    fail(desk.records, scan_id)
    callbacks = Callbacks(redis)
    (parcel,), _ = callbacks.claim(1, lease_s=60, share=1, under_way={})
    callbacks.give_up(parcel, error="gone", keep_s=60)
    redis.delete(f"vf:scan:{scan_id}")
    assert bulk.purge(Purge(states=frozenset({"completed"}), before_ms=0, owner="zenith"), really=True) == 0
    assert [dead.scan for dead in callbacks.dead()] == [scan_id]
    assert redis.zcard("vf:index") == 0


def test_a_rescan_is_for_results_of_other_models(desk: Desk, bulk: Bulk) -> None:
    old, current, corrupt = (submit(desk, f"https://example.org/{n}.mp4") for n in range(3))
    complete(desk.records, old, by_model=OLD_MODEL)
    complete(desk.records, current, sha256="cd" * 32, by_model=NEW_MODEL)
    fail(desk.records, corrupt)
    (one,) = bulk.rescan(NEW_MODEL)
    assert (one.old, one.new.created) == (old, True)
    new = desk.record(one.new.id, None)
    assert (new.retry_of, new.state, new.request.idempotency_key) == (old, "queued", None)
    again = list(bulk.rescan(NEW_MODEL))
    assert again == []
    fail(desk.records, new.id)
    (told,) = bulk.rescan(NEW_MODEL)
    assert (told.old, told.new.id, told.new.created) == (old, new.id, False)
    with pytest.raises(BadRequest):
        list(bulk.rescan("V" * 64))


def test_the_callback_of_a_rescan_names_the_scan_that_it_repeats(desk: Desk, bulk: Bulk, redis: Redis) -> None:
    old = submit(desk, callback_url="https://example.org/hook", external_id="7")
    complete(desk.records, old)
    (one,) = bulk.rescan(NEW_MODEL)
    fail(desk.records, one.new.id, dead=False)
    told = [json.loads(redis.hget(f"vf:callback:evt_{scan_id}", "body"))["data"] for scan_id in (old, one.new.id)]
    assert [data["retry_of"] for data in told] == [None, old]
    assert [(data["external_id"], data["status"]) for data in told] == [("7", "completed"), ("7", "failed")]


def test_rescans_at_once_make_one_scan_of_each(desk: Desk) -> None:
    old = [submit(desk, f"https://example.org/{n}.mp4") for n in range(6)]
    for number, scan_id in enumerate(old):
        complete(desk.records, scan_id, sha256=f"{number:064x}")
    ready = threading.Barrier(4)

    def rescan(_: int) -> dict[str, str]:
        ready.wait(120)
        return {one.old: one.new.id for one in Bulk(desk=desk).rescan(NEW_MODEL)}

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(rescan, range(4)))
    assert {scan_id for each in told for scan_id in each} == set(old)
    assert desk.count(None) == 12


def test_the_latest_of_equal_requests_is_scanned_again(desk: Desk, bulk: Bulk) -> None:
    equal = [submit(desk) for _ in range(3)]
    other = submit(desk, external_id="7")
    for scan_id in (*equal, other):
        complete(desk.records, scan_id)
    newest = next(report.id for report in desk.each(None) if report.id in equal)
    assert {one.old for one in bulk.rescan(NEW_MODEL)} == {newest, other}


def test_what_was_scanned_again_is_followed_not_its_ancestors(desk: Desk, bulk: Bulk) -> None:
    first = submit(desk)
    complete(desk.records, first, by_model=OLD_MODEL)
    (one,) = bulk.rescan(NEW_MODEL)
    complete(desk.records, one.new.id, by_model=NEW_MODEL)
    third_model = "c" * 64
    assert [again.old for again in bulk.rescan(third_model)] == [one.new.id]


def test_owners_are_kept_apart(desk: Desk) -> None:
    mine, theirs = submit(desk), submit(desk, owner="zenith")
    for scan_id in (mine, theirs):
        complete(desk.records, scan_id)
    (one,) = Bulk(desk=desk, owner="zenith").rescan(NEW_MODEL)
    assert (one.old, desk.record(one.new.id, None).owner) == (theirs, "zenith")
    dead = [submit(desk, owner=owner) for owner in ("acme", "zenith")]
    for scan_id in dead:
        fail(desk.records, scan_id, dead=True)
    assert [again.old for again in Bulk(desk=desk, owner="acme").replay_dead()] == dead[:1]


def test_another_owners_dead_letters_are_not_read(desk: Desk, redis: Redis) -> None:
    mine, theirs = (submit(desk, owner=owner) for owner in ("bob", "alice"))
    for scan_id in (mine, theirs):
        fail(desk.records, scan_id, dead=True)
    others = {f"{number:032x}": number for number in range(499)}
    for scan_id in others:
        redis.copy(f"vf:scan:{theirs}", f"vf:scan:{scan_id}")
    for name in ("vf:dead", "vf:index:alice"):
        redis.zadd(name, others)
    redis.config_resetstat()
    assert [again.old for again in Bulk(desk=desk, owner="bob").replay_dead()] == [mine]
    assert redis.info("commandstats")["cmdstat_hgetall"]["calls"] == 1
    assert list(Bulk(desk=desk, owner="nobody").replay_dead()) == []
    assert redis.info("commandstats")["cmdstat_hgetall"]["calls"] == 1


def test_dead_letters_are_sought_among_the_latest(desk: Desk, redis: Redis) -> None:
    dead = [submit(desk, f"https://example.org/{n}.mp4") for n in range(3)]
    for at_ms, scan_id in enumerate(dead):
        fail(desk.records, scan_id, dead=True)
        redis.zadd("vf:dead", {scan_id: at_ms})
    looked: list[int] = []
    bulk = Bulk(desk=desk, owner="acme", on_looked=looked.append)
    assert [again.old for again in bulk.replay_dead(among=2)] == [dead[2], dead[1]]
    assert sum(looked) == 2
    assert [again.new.created for again in bulk.replay_dead(among=3)] == [False, False, True]


def test_what_the_queue_refused_is_given_back_to_the_day(desk: Desk, redis: Redis) -> None:
    dead = [submit(desk, f"https://example.org/{n}.mp4") for n in range(3)]
    for scan_id in dead:
        fail(desk.records, scan_id, dead=True)
    narrow = Desk(Records(redis, "vf", Terms(open_scans=1)), Doorbells(redis, "vf"))
    told = list(Bulk(desk=narrow, owner="acme", quotas=Quotas(redis, scans_per_day=3)).replay(dead))
    assert [one.new.created for one in told] == [True, False, False]
    assert redis.hget("vf:day:acme", "scans") == b"1"
    told = list(Bulk(desk=desk, owner="acme", quotas=Quotas(redis, scans_per_day=2)).replay_dead())
    assert sum(one.new.created for one in told) == 1
    (refusal,) = [one.new.refusal for one in told if one.new.refusal is not None]
    assert "2 scans a day" in str(refusal)
    assert redis.hget("vf:day:acme", "scans") == b"2"
    assert [one.new.created for one in Bulk(desk=desk).replay_dead()].count(True) == 1, "the operator is not counted"


def test_a_day_that_could_not_be_used_is_given_back(desk: Desk, redis: Redis) -> None:
    (dead,) = [submit(desk)]
    fail(desk.records, dead, dead=True)

    class Away(Doorbells):
        def ring(self, *_: object) -> None:
            raise RedisDown("away")

    bulk = Bulk(desk=Desk(desk.records, Away(redis, "vf")), quotas=Quotas(redis))
    with pytest.raises(RedisDown):
        list(bulk.replay([dead]))
    assert redis.hget("vf:day:acme", "scans") == b"0"


def test_a_result_of_another_version_is_scanned_again(desk: Desk) -> None:
    scan_id = submit(desk)
    complete(desk.records, scan_id, by_model=NEW_MODEL)
    desk.records.redis.hset(f"vf:scan:{scan_id}", "report", b"of a later one")
    assert [again.old for again in Bulk(desk=desk).rescan(NEW_MODEL)] == [scan_id]
