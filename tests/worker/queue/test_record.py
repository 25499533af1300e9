"""Records of a newer version are read; of those that somebody altered it is said that they cannot be, and nothing else is hid."""

from __future__ import annotations

import json
import zlib

import pytest
from redis import Redis

from tests.worker.queue.scans import complete, fail, submit, watched
from worker.errors import UnreadableRecord
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.record import unpack
from worker.queue.records import Records


@pytest.fixture
def desk(redis: Redis) -> Desk:
    return Desk(Records(redis), Doorbells(redis))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state", "weird"),
        ("state", b"\xff"),
        ("not_before_ms", "inf"),
        ("not_before_ms", "1e400"),
        ("created_ms", "9" * 20),
        ("finished_ms", "-1"),
        ("attempt", "x"),
        ("summary", "[1]"),
        ("error", "[" * 100_000),
    ],
)
def test_one_that_cannot_be_read_is_passed_over_by_lists_and_told_so_by_its_name(
    desk: Desk, name: str, value: str | bytes
) -> None:
    good, odd = submit(desk), submit(desk)
    desk.records.redis.hset(f"vf:scan:{odd}", name, value)
    assert [report.id for report in desk.page("acme").reports] == [good]
    for ask in (desk.report, desk.cancel, desk.retry):
        with pytest.raises(UnreadableRecord, match=odd):
            ask(odd, "acme")
    assert [state is not None for state in desk.records.states([odd, good], "acme")] == [True, True]


@pytest.mark.parametrize("progress", ["x", "nan", "inf", "-1", b"\xff"])
def test_a_progress_that_is_none_hides_no_state(desk: Desk, progress: str | bytes) -> None:
    scan_id = submit(desk)
    desk.records.redis.hset(f"vf:scan:{scan_id}", "progress", progress)
    assert desk.records.states([scan_id]) == [("queued", 0.0)]
    assert desk.report(scan_id, "acme").progress == 0


def test_what_a_newer_version_stored_with_fields_of_its_own_is_read(desk: Desk) -> None:
    redis, done, failed, watch = desk.records.redis, submit(desk), submit(desk), watched(desk, 2)
    complete(desk.records, done)
    fail(desk.records, failed)
    known = desk.report(done, "acme")
    assert known.model is not None
    told = json.loads(zlib.decompress(redis.hget(f"vf:scan:{done}", "report")))
    told |= {"next": 1, "model": told["model"] | {"next": 1}}
    redis.hset(f"vf:scan:{done}", "report", zlib.compress(json.dumps(told).encode()))
    redis.hset(f"vf:scan:{failed}", "error", json.dumps({"code": "corrupt", "message": "", "retryable": False, "next": 1}))
    redis.lset(f"vf:events:{watch}", 1, json.dumps(json.loads(redis.lindex(f"vf:events:{watch}", 1)) | {"next": 1}))
    assert unpack(redis.hget(f"vf:scan:{done}", "report")).model == known.model
    assert desk.report(done, "acme") == known
    assert {report.id for report in desk.page("acme").reports} == {done, failed, watch}
    assert desk.report(failed, "acme").error is not None
    assert [event.number for event in desk.events(watch, "acme")[1].events] == [0, 1]
