"""The reconciler on a real Redis: scans that lost their worker or their doorbell are rung for again."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.worker.queue.harness import until
from worker.queue.doorbell import Doorbells
from worker.queue.reconcile import Reconciler
from worker.queue.records import Claim, Records, Submission, Terms
from worker.queue.requests import RequestSource, ScanRequest

ORDER = ("live", "batch", "low")


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, "vf", Terms(lease_s=0.05, ring_again_s=60))


@pytest.fixture
def bells(redis: Redis) -> Doorbells:
    return Doorbells(redis, "vf")


def reconciler(records: Records, bells: Doorbells, name: str = "w1") -> Reconciler:
    return Reconciler(records=records, bells=bells, worker=name, every_s=30)


def submitted(records: Records, bells: Doorbells, count: int) -> list[str]:
    request = ScanRequest(source=RequestSource(path="/media/a.mp4"))
    made = records.submit([Submission(request=request, owner="acme") for _ in range(count)])
    bells.ring({one.id: "batch" for one in made})
    return [one.id for one in made]


def test_a_scan_that_lost_its_worker_goes_before_those_that_were_never_begun(records: Records, bells: Doorbells) -> None:
    lost, *others = submitted(records, bells, 3)
    assert bells.hear(ORDER, 1) == lost
    assert isinstance(records.claim(lost, "w0"), Claim)
    until(records.expired, 5, "the lease runs out")
    one = reconciler(records, bells)
    assert one.run_once().expired == (), "seen once, it may still be renewed"
    assert one.run_once().expired == (lost,)
    assert [bells.hear(ORDER, 1) for _ in range(3)] == [lost, *others]
    assert records.get(lost).state == "queued"


def test_a_lease_that_is_renewed_between_two_passes_is_held(records: Records, bells: Doorbells) -> None:
    (scan,) = submitted(records, bells, 1)
    claim = records.claim(scan, "w0")
    assert isinstance(claim, Claim)
    until(records.expired, 5, "the lease runs out")
    one = reconciler(records, bells)
    one.run_once()
    records.renew(claim)
    assert one.run_once().expired == ()
    assert records.get(scan).state == "running"


def test_one_of_them_is_elected_until_it_is_silent(records: Records, bells: Doorbells, redis: Redis) -> None:
    first, second = reconciler(records, bells, "w1"), reconciler(records, bells, "w2")
    assert (first.run_once().elected, second.run_once().elected, first.run_once().elected) == (True, False, True)
    redis.delete("vf:reconciler")
    assert (second.run_once().elected, first.run_once().elected) == (True, False)
