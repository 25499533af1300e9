"""Whether a queue may stand on a server, by what that says of itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from redis import Redis, exceptions
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from worker.errors import RedisDown
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.queue.server import server_problems

SECRET = "hunter2-Zx9"


class Telling(Redis):
    """A server that says of itself what it is told to."""

    def __init__(self, **said: str) -> None:
        self.said = said

    def info(self) -> dict[str, str]:
        return self.said

    def set(self, *_: object, **__: object) -> bool:
        return True


def test_ours_is_one_until_it_may_throw_scans_away(own_redis: EmbeddedRedis) -> None:
    with connect(url=own_redis.url, timeout_s=5, patience_s=5) as redis:
        assert server_problems(redis, "vf") == ()
        redis.config_set("maxmemory-policy", "allkeys-lru")
        (problem,) = server_problems(redis, "vf")
    assert "allkeys-lru: set it to noeviction" in problem


def test_a_replica_is_no_place_for_a_queue(own_redis: EmbeddedRedis, redis_server: EmbeddedRedis) -> None:
    with connect(url=own_redis.url, timeout_s=5, patience_s=5) as redis:
        redis.replicaof("127.0.0.1", redis_server.port)
        (problem,) = server_problems(redis, "vf")
    assert "is a slave" in problem


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [("min-replicas-to-write", 1, "Redis takes no writes: NOREPLICAS"), ("maxmemory", 1, "Redis is full: raise its maxmemory")],
)
def test_one_that_refuses_writes_alone_says_why(own_redis: EmbeddedRedis, setting: str, value: int, says: str) -> None:
    with connect(url=own_redis.url, timeout_s=5, patience_s=5) as redis:
        redis.config_set(setting, value)
        (problem,) = server_problems(redis, "vf")
        assert problem.startswith(says)
        redis.config_set(setting, 0)
        assert server_problems(redis, "vf") == ()
        assert 0 < redis.pttl("vf:probe") <= 1000, "nothing is left of it"


def test_what_a_server_hides_stops_nothing(own_redis: EmbeddedRedis) -> None:
    with connect(url=own_redis.url, timeout_s=5, patience_s=5) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
        admin.execute_command("ACL", "SETUSER", "vf", "on", f">{SECRET}", "~*", "+@all", "-info")
    with connect(url=own_redis.url, username="vf", password=SECRET, timeout_s=5, patience_s=5) as redis:
        assert server_problems(redis, "vf") == ()
    assert server_problems(Telling(), "vf") == ()


@pytest.mark.parametrize(
    ("version", "fine"),
    [("6.0.16", False), ("5.0", False), ("6.2.0", True), ("6.10.1", True), ("7.4.1", True), ("10.0", True)],
)
def test_version(version: str, fine: bool) -> None:
    assert (not server_problems(Telling(redis_version=version), "vf")) == fine


def test_a_dead_one_is_down(own_redis: EmbeddedRedis) -> None:
    own_redis.kill()
    with connect(url=own_redis.url, timeout_s=5, patience_s=0) as redis, pytest.raises(RedisDown):
        server_problems(redis, "vf")


def test_the_acl_user_that_the_documentation_shows_is_enough_and_no_more(own_redis: EmbeddedRedis) -> None:
    text = (Path(__file__).parents[3] / "docs" / "redis.md").read_text(encoding="utf-8")
    shown = re.search(r"^user veriframe (.*)$", text, re.MULTILINE)
    assert shown is not None
    rules = [f">{SECRET}" if rule == ">PASSWORD" else rule for rule in shown[1].split()]
    with connect(url=own_redis.url, timeout_s=5, patience_s=5) as admin:
        admin.execute_command("ACL", "SETUSER", "veriframe", *rules)
    with connect(url=own_redis.url, username="veriframe", password=SECRET, timeout_s=5, patience_s=5) as redis:
        assert server_problems(redis, "vf") == ()
        queues = [Queue(name, connection=redis, serializer=JSONSerializer) for name in ("live", "batch", "low")]
        for queue in queues:
            queue.enqueue("math.sqrt", 4.0)
        SimpleWorker(queues, connection=redis, serializer=JSONSerializer).work(burst=True, with_scheduler=False)
        assert [queue.finished_job_registry.count for queue in queues] == [1, 1, 1]
        assert redis.register_script("redis.call('time') return redis.call('incr', KEYS[1])")(["vf:a"]) == 1
        for forbidden in ("FLUSHALL", "KEYS *", "CONFIG SET maxmemory 1", "SET other 1", "SCRIPT FLUSH", "SHUTDOWN", "ACL LIST"):
            with pytest.raises(exceptions.NoPermissionError):
                redis.execute_command(*forbidden.split(" "))
