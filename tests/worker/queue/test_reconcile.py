"""Passes of the reconciler on a real Redis: who is elected, what is taken, what is rung."""

from __future__ import annotations

import pytest
from redis import Redis

from worker.errors import StorageDown
from worker.queue.doorbell import Doorbells
from worker.queue.reconcile import Reconciler
from worker.queue.records import Claim, Records, Submission, Terms
from worker.queue.requests import RequestSource, ScanRequest


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, "vf", Terms(lease_s=0.05, ring_again_s=0.0))


def reconciler(records: Records, name: str = "a") -> Reconciler:
    return Reconciler(records=records, bells=Doorbells(records.redis), worker=name, every_s=5)


def submitted(records: Records, priority: str = "batch") -> str:
    request = ScanRequest(source=RequestSource(url="https://example.org/a.mp4"), priority=priority)  # type: ignore[arg-type]
    return records.submit([Submission(request=request, owner="acme")])[0].id


def wait_ms(records: Records, ms: int) -> None:
    until = records.now_ms() + ms
    while records.now_ms() < until:
        pass


def test_one_of_two_is_elected_until_it_is_silent(records: Records) -> None:
    first, second = reconciler(records, "a"), reconciler(records, "b")
    assert first.run_once().elected
    assert not second.run_once().elected
    assert first.run_once().elected
    records.redis.delete("vf:reconciler")
    assert second.run_once().elected
    assert not first.run_once().elected


def test_a_scan_without_a_doorbell_is_rung_for_in_its_queue(records: Records) -> None:
    scan_id = submitted(records, "live")
    assert reconciler(records).run_once().rung == (scan_id,)
    assert records.redis.lrange("rq:queue:vf-live", 0, -1) == [scan_id.encode()]
    wait_ms(records, 2)
    assert reconciler(records).run_once().rung == ()


def test_a_lease_is_taken_at_the_second_sight_only(records: Records) -> None:
    scan_id = submitted(records)
    assert isinstance(records.claim(scan_id, "gone"), Claim)
    one = reconciler(records)
    wait_ms(records, 60)
    assert one.run_once().expired == ()
    assert one.run_once().expired == (scan_id,)
    assert records.get(scan_id).state == "queued"


def test_a_lease_renewed_between_the_sights_is_kept(records: Records) -> None:
    scan_id = submitted(records)
    claim = records.claim(scan_id, "slow")
    assert isinstance(claim, Claim)
    one = reconciler(records)
    wait_ms(records, 60)
    one.run_once()
    records.renew(claim)
    wait_ms(records, 60)
    assert one.run_once().expired == ()
    assert records.get(scan_id).attempt == 1


def test_artefacts_are_swept_now_and_then_and_a_store_that_is_down_stops_nothing(records: Records) -> None:
    swept: list[int] = []

    def sweep() -> None:
        swept.append(1)
        raise StorageDown("no answer")

    one = Reconciler(records=records, bells=Doorbells(records.redis), worker="a", every_s=5, sweep=sweep)
    assert one.run_once().elected
    assert one.run_once().elected
    assert swept == [1]
