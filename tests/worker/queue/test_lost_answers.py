"""Redis did what it was told and the answer was lost: the command is sent again, and what it does is done once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from redis import Redis, exceptions
from redis.connection import Connection

from tests.worker.queue.scans import complete, submit
from worker.errors import QueueFull
from worker.queue.audit import AuditLog
from worker.queue.connection import PatientRetry, connect
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.quotas import Quotas
from worker.queue.record import Purge
from worker.queue.records import Records

Loses = Callable[..., None]


@pytest.fixture
def line(redis_server: EmbeddedRedis, redis: Redis) -> Iterator[tuple[Redis, Loses]]:
    """A client, and what makes its next answer, or one that comes so many ``later``, be lost on the way: the server has done by
    then what it was told, and others ``meanwhile`` what they want."""
    coming: list[Callable[[], None]] = []

    class Breaking(Connection):
        def read_response(self, *args: Any, **options: Any) -> Any:
            answer = super().read_response(*args, **options)
            if coming:
                coming.pop(0)()
                if not coming:
                    raise exceptions.ConnectionError("hung up")
            return answer

    def lose(later: int = 0, meanwhile: Callable[[], None] = lambda: None) -> None:
        coming.extend([*[lambda: None] * later, meanwhile])

    with connect(url=redis_server.url, timeout_s=10, patience_s=10) as client:
        client.connection_pool.connection_class = Breaking
        yield client, lose
        assert not coming, "an answer was to be lost, and none was waited for"


def test_a_decision_is_in_the_log_once(line: tuple[Redis, Loses]) -> None:
    client, lose = line
    log = AuditLog(client, "vf")
    entry = {"owner": "acme", "scan": "0" * 32, "sha256": "a" * 64}
    log.write(entry, {"verdict": "fake"})
    lose()
    log.write(entry, {"verdict": "real"})
    assert client.xlen("vf:audit") == 2
    assert len(list(log.each_of("acme"))) == len(log.about("acme", "a" * 64, 9)) == 2


def test_a_decision_that_was_sent_again_is_not_laid_over_what_another_said_meanwhile(
    line: tuple[Redis, Loses], redis: Redis
) -> None:
    client, lose = line
    log, theirs = AuditLog(client, "vf"), AuditLog(redis, "vf")
    entry = {"owner": "acme", "scan": "0" * 32, "sha256": "a" * 64}
    log.write(entry, {"verdict": "fake"})
    for number, verdict in enumerate(("fake", "uncertain")):
        lose(meanwhile=partial(theirs.write, entry, {"verdict": "real", "by": number}))
        log.write(entry, {"verdict": verdict})
        holds = json.loads(redis.get(f"vf:override:acme:{'a' * 64}") or "")
        assert holds == {"verdict": "real", "by": number, "scan": entry["scan"]}
    assert client.xlen("vf:audit") == 1 + 1 + 2, "one of mine held already"
    assert [0 < redis.ttl(key) <= 600 for key in redis.keys("vf:said:*")] == [True] * 5


def test_what_is_counted_against_a_day_is_counted_once(line: tuple[Redis, Loses]) -> None:
    client, lose = line
    quotas = Quotas(client, scans_per_day=4)
    day = quotas.scans("acme", 2)
    lose()
    assert quotas.scans("acme", 2) == day
    with pytest.raises(QueueFull):
        quotas.scans("acme")
    lose()
    quotas.give_back("acme", day)
    lose()
    quotas.scans("acme")
    lose()
    with pytest.raises(QueueFull):
        quotas.scans("acme")
    assert client.hget("vf:day:acme", "scans") == b"4"
    assert all(0 < client.ttl(key) <= 120 for key in client.keys("vf:counted:*"))


def three_done(redis: Redis) -> list[str]:
    desk = Desk(Records(redis, "vf"), Doorbells(redis, "vf"))
    scan_ids = [submit(desk, f"https://example.org/{number}.mp4") for number in range(3)]
    for scan_id in scan_ids:
        complete(desk.records, scan_id)
    return scan_ids


def test_what_was_purged_is_counted_though_the_answer_was_lost_in_the_middle(line: tuple[Redis, Loses], redis: Redis) -> None:
    client, lose = line
    scan_ids, records = three_done(redis), Records(client, "vf")
    assert records.purge(scan_ids, Purge(), really=False) == 3
    lose(later=2)
    assert records.purge(scan_ids, Purge(), really=True) == 3
    assert records.purge(scan_ids, Purge(), really=True) == 0
    assert client.keys("vf:purging:*") == []


def test_what_was_purged_is_told_though_its_mark_could_not_be_deleted(line: tuple[Redis, Loses], redis: Redis) -> None:
    client, lose = line
    client.set_retry(PatientRetry(0))
    scan_ids, records = three_done(redis), Records(client, "vf")
    assert records.purge(scan_ids, Purge(), really=False) == 3
    lose(later=4)
    assert records.purge(scan_ids, Purge(), really=True) == 3


def test_nothing_is_deleted_where_it_is_only_counted(redis: Redis) -> None:
    desk = Desk(Records(redis, "vf"), Doorbells(redis, "vf"))
    scan_id = submit(desk, "https://example.org/1.mp4")
    complete(desk.records, scan_id)
    redis.config_resetstat()
    assert desk.records.purge([scan_id], Purge(), really=False) == 1
    assert "cmdstat_del" not in redis.info("commandstats")
