"""Lists of scans keep what there is and lose what Redis has forgotten, in steps, on a real Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.worker.queue.record_steps import claimed, submitted
from worker.queue.forgetting import LISTS, Forgetting
from worker.queue.record import Terms
from worker.queue.records import Records


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, "vf", Terms(keep_s=1000))


def old(records: Records, count: int, owner: str = "acme", at_ms: int = 1000) -> list[str]:
    """Scans that were submitted in 1970, and are open still."""
    ids = [submitted(records, owner) for _ in range(count)]
    for name in ("index", f"index:{owner}"):
        records.redis.zadd(records.key(name), {scan_id: at_ms + n for n, scan_id in enumerate(ids)})
    return ids


def gone(records: Records, ids: list[str]) -> None:
    """Redis has forgotten them."""
    records.redis.delete(*(records.key("scan", scan_id) for scan_id in ids))


def listed(records: Records, name: str) -> set[str]:
    return {scan_id.decode() for scan_id in records.redis.zrange(records.key(name), 0, -1)}


def steps(forgetting: Forgetting, count: int) -> list[int]:
    return [forgetting.step() for _ in range(count)]


def test_an_open_scan_stays_in_the_lists_however_old_it_is(records: Records) -> None:
    waiting, running, forgotten = old(records, 3)
    claimed(records, running)
    gone(records, [forgotten])
    young = submitted(records)
    assert Forgetting(records=records).step() == 2, "one of everybody's list, one of the owner's"
    assert listed(records, "index") == listed(records, "index:acme") == {waiting, running, young}


def test_dead_letters_go_with_their_records(records: Records) -> None:
    ids = old(records, 2)
    for scan_id in ids:
        records.fail(claimed(records, scan_id), code="internal", message="", retryable=False)
    records.redis.zadd("vf:dead", dict.fromkeys(ids, 1000))
    gone(records, ids[:1])
    Forgetting(records=records).step()
    assert listed(records, "dead") == set(ids[1:])


def test_what_is_too_young_to_be_gone_is_not_looked_at(records: Records) -> None:
    scan_id = submitted(records)
    assert records.forget("index", 0, 100) == (0, 0)
    records.redis.zadd("vf:index", {scan_id: records.now_ms() - 1_000_001})
    assert records.forget("index", 0, 100) == (1, 0)


def test_old_open_scans_at_the_head_do_not_stop_it(records: Records) -> None:
    still, forgotten = old(records, 7), old(records, 8, at_ms=2000)
    gone(records, forgotten)
    one = Forgetting(records=records, looked_at=3)
    assert sum(steps(one, 10)) == 16, "15 in each of two lists"
    assert listed(records, "index") == listed(records, "index:acme") == set(still)


def test_one_step_is_no_longer_than_it_may_be(records: Records) -> None:
    gone(records, old(records, 20))
    one = Forgetting(records=records, looked_at=5)
    assert steps(one, 9) == [5] * 8 + [0]


def test_a_step_looks_at_so_many_lists(records: Records) -> None:
    records.redis.hset("vf:open", mapping={f"owner {n}": 0 for n in range(LISTS)})
    records.redis.zadd(f"vf:index:owner {LISTS - 1}", {"0" * 32: 1})
    assert sum(steps(Forgetting(records=records), 2)) == 1
    assert listed(records, f"index:owner {LISTS - 1}") == set()


def test_between_two_walks_it_rests(records: Records) -> None:
    ids = old(records, 2)
    rests, hurries = Forgetting(records=records), Forgetting(records=records, rest_s=0.0)
    assert (rests.step(), hurries.step()) == (0, 0)
    gone(records, ids)
    assert rests.step() == 0
    assert hurries.step() == 4


def test_a_walk_that_was_overtaken_by_a_purge_misses_nothing_for_good(records: Records) -> None:
    ids = old(records, 9)
    one = Forgetting(records=records, looked_at=6, rest_s=0.0)
    one.step()
    gone(records, ids)
    records.redis.zrem("vf:index", *ids[:4])
    steps(one, 8)
    assert listed(records, "index") == listed(records, "index:acme") == set()
