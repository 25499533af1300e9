"""The audit log: one owner's decisions are found without reading everybody else's, whoever wrote them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from worker.queue.audit import AT_ONCE, AuditLog


@pytest.fixture
def log(redis: Redis) -> AuditLog:
    return AuditLog(redis, "vf")


def entry(owner: str, number: int = 0) -> dict[str, Any]:
    return {"owner": owner, "scan": f"{number:032x}", "sha256": f"{number:064x}", "verdict": "real"}


def decide(log: AuditLog, *entries: dict[str, Any]) -> None:
    """Each by somebody else."""
    for number, one in enumerate(entries):
        log.write(one, {"verdict": one["verdict"], "by": number})


def as_an_earlier_version(redis: Redis, *entries: dict[str, Any]) -> None:
    """Such as knew of no lists."""
    with redis.pipeline() as pipe:
        for one in entries:
            pipe.xadd("vf:audit", {"decision": json.dumps(one)})
        pipe.execute()


def entries_read(redis: Redis, log: AuditLog, owner: str) -> tuple[list[dict[str, Any]], int]:
    """An owner's decisions, and how often the whole log was read on the way."""
    before = redis.info("commandstats").get("cmdstat_xrange", {"calls": 0})["calls"]
    found = list(log.each_of(owner))
    return found, redis.info("commandstats")["cmdstat_xrange"]["calls"] - before


def test_one_owners_are_found_in_their_order(log: AuditLog) -> None:
    mine = [entry("acme", n) for n in (2, 1, 2)]
    decide(log, mine[0], entry("zenith"), *mine[1:])
    assert list(log.each_of("acme")) == mine
    assert list(log.each_of("nobody")) == []
    assert [one["owner"] for _, one in log.page("-", 10)] == ["acme", "zenith", "acme", "acme"]


def test_a_word_that_holds_is_written_once(log: AuditLog, redis: Redis) -> None:
    def say(**told: str | None) -> int:
        log.write(entry("acme") | told, told)
        return redis.xlen("vf:audit")

    ada = {"verdict": "real", "by": "ada", "category": None, "note": "\U0001f600 ß"}
    assert [say(**ada), say(**ada)] == [1, 1]
    others = [ada | {"by": "bob"}, ada | {"note": None}, ada | {"category": "blend"}, ada | {"verdict": "fake"}, ada]
    assert [say(**other) for other in others] == [2, 3, 4, 5, 6], "only the latest counts"
    assert redis.xlen(f"vf:decisions:acme:{0:064x}") == redis.llen("vf:decided:acme") == 6


def test_the_same_word_on_another_scan_of_the_same_bytes_is_an_entry_of_its_own(log: AuditLog, redis: Redis) -> None:
    """It says where the bytes are now: the first scan's may be gone."""
    told = {"verdict": "fake", "by": "ada"}
    first, second = ({**entry("acme"), "scan": scan * 32, **told} for scan in "ab")
    for one in (first, first, second, second, first):
        log.write(one, told)
    assert [one["scan"][0] for one in log.each_of("acme")] == ["a", "b", "a"]


def test_a_word_on_a_part_is_written_once_whatever_was_said_of_others_since(log: AuditLog) -> None:
    told = {"verdict": "fake", "by": "ada"}
    whole, first, second = ({**entry("acme"), "scan": scan * 32, **told} for scan in "abc")
    first, second = first | {"start_s": 0.0, "end_s": 5.0}, second | {"start_s": 5.0, "end_s": 9.0}
    for one in (whole, first, second, whole, first, second):
        log.write(one, told)
    assert [one["scan"][0] for one in log.each_of("acme")] == ["a", "b", "c"]


def test_text_is_not_blown_up_and_bytes_that_are_none_are_kept(log: AuditLog, redis: Redis) -> None:
    notes = ["\U0001f600" * 2000, "a name of \udcff"]
    for note in notes:
        log.write(entry("acme") | {"note": note}, {"note": note})
    assert [one["note"] for one in log.each_of("acme")] == notes
    ((_, fields), _) = redis.xrange("vf:audit")
    assert len(fields[b"decision"]) < 4 * 2000 + 300


def test_others_cost_nothing(log: AuditLog, redis: Redis) -> None:
    decide(log, entry("acme"), *(entry("zenith", n) for n in range(AT_ONCE * 2 + 5)), entry("acme", 1))
    found, reads = entries_read(redis, log, "acme")
    assert found == [entry("acme"), entry("acme", 1)]
    assert reads == len(found) + 1, "each where it is, and a look whether there are others behind the last that is in a list"


def test_what_an_earlier_version_wrote_is_put_into_lists_once(log: AuditLog, redis: Redis) -> None:
    old = [entry("acme", n) for n in range(3)]
    as_an_earlier_version(redis, old[0], *(entry("zenith", n) for n in range(AT_ONCE * 2)), *old[1:])
    decide(log, entry("acme", 3))
    expected = [*old, entry("acme", 3)]
    assert [entries_read(redis, log, "acme") for _ in range(2)] == [(expected, 4 + 4), (expected, 4 + 1)]
    decide(log, entry("acme", 4))
    as_an_earlier_version(redis, entry("acme", 5))  # still at work beside this one
    decide(log, entry("acme", 6))
    assert list(log.each_of("acme")) == [*expected, *(entry("acme", n) for n in (4, 5, 6))]
    assert len(list(log.each_of("zenith"))) == AT_ONCE * 2


def test_readers_at_once_put_each_there_once(log: AuditLog, redis: Redis) -> None:
    old = [entry("acme", n) for n in range(AT_ONCE * 3)]
    as_an_earlier_version(redis, *old)
    with ThreadPoolExecutor(4) as pool:
        read = [pool.submit(lambda: list(log.each_of("acme"))) for _ in range(4)]
        pool.submit(decide, log, entry("acme", AT_ONCE * 3)).result()
        for one in read:
            assert one.result()[: len(old)] == old
    assert list(log.each_of("acme")) == [*old, entry("acme", AT_ONCE * 3)]


def test_what_is_deleted_from_the_log_is_gone(log: AuditLog, redis: Redis) -> None:
    decide(log, *(entry("acme", n) for n in range(3)))
    for n in (0, 1):
        redis.xdel("vf:audit", log.page("-", 10)[-1 if n else 0][0])
    decide(log, entry("acme", 3))
    assert list(log.each_of("acme")) == [entry("acme", 1), entry("acme", 3)]
