"""What a server says of itself, and whether a queue may stand on it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from redis import exceptions
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from worker.errors import ConfigError, RedisDown
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.queue.server import ServerFacts, check_server

SECRET = "hunter2-Zx9"


class TestServer:
    FINE = ServerFacts(version="7.2.4", role="master", maxmemory_policy="noeviction", aof=True, appendfsync="always", rdb=False)

    def test_what_ours_says(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=5) as redis:
            facts = check_server(redis)
            assert facts == self.FINE
            assert facts.problems == ()
            assert "always" in facts.durability
            facts.require()
            redis.config_set("maxmemory-policy", "allkeys-lru")
            redis.config_set("appendonly", "no")
            facts = check_server(redis)
        assert "everything is lost" in facts.durability
        with pytest.raises(ConfigError, match="allkeys-lru: set it to noeviction"):
            facts.require()

    def test_a_replica_is_no_place_for_a_queue(self, own_redis: EmbeddedRedis, redis_server: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=5) as redis:
            redis.replicaof("127.0.0.1", redis_server.port)
            with pytest.raises(ConfigError, match="is a slave"):
                check_server(redis).require()

    @pytest.mark.parametrize("forbidden", [["-config"], ["-config", "-info"]])
    def test_what_a_server_hides_is_unknown(self, own_redis: EmbeddedRedis, forbidden: list[str]) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=5) as admin:
            admin.execute_command("ACL", "SETUSER", "vf", "on", f">{SECRET}", "~*", "+@all", *forbidden)
        with connect(url=own_redis.url, username="vf", password=SECRET, timeout_s=5, patience_s=5) as redis:
            facts = check_server(redis)
        assert facts.appendfsync is None
        assert facts.rdb is None
        assert (facts.version is None) == ("-info" in forbidden)
        assert "unknown" in facts.durability
        facts.require()

    @pytest.mark.parametrize(
        ("version", "fine"),
        [("6.0.16", False), ("5.0", False), ("6.2.0", True), ("6.10.1", True), ("7.4.1", True), ("10.0", True)],
    )
    def test_version(self, version: str, fine: bool) -> None:
        assert (not dataclasses.replace(self.FINE, version=version).problems) == fine

    def test_a_dead_one_is_down(self, own_redis: EmbeddedRedis) -> None:
        own_redis.kill()
        with connect(url=own_redis.url, timeout_s=5, patience_s=0) as redis, pytest.raises(RedisDown):
            check_server(redis)


def test_the_acl_user_that_the_documentation_shows_is_enough_and_no_more(own_redis: EmbeddedRedis) -> None:
    text = (Path(__file__).parents[3] / "docs" / "redis.md").read_text(encoding="utf-8")
    shown = re.search(r"^user veriframe (.*)$", text, re.MULTILINE)
    assert shown is not None
    rules = [f">{SECRET}" if rule == ">PASSWORD" else rule for rule in shown[1].split()]
    with connect(url=own_redis.url, timeout_s=5, patience_s=5) as admin:
        admin.execute_command("ACL", "SETUSER", "veriframe", *rules)
    with connect(url=own_redis.url, username="veriframe", password=SECRET, timeout_s=5, patience_s=5) as redis:
        check_server(redis).require()
        queues = [Queue(name, connection=redis, serializer=JSONSerializer) for name in ("live", "batch", "low")]
        for queue in queues:
            queue.enqueue("math.sqrt", 4.0)
        SimpleWorker(queues, connection=redis, serializer=JSONSerializer).work(burst=True, with_scheduler=False)
        assert [queue.finished_job_registry.count for queue in queues] == [1, 1, 1]
        assert redis.register_script("redis.call('time') return redis.call('incr', KEYS[1])")(["vf:a"]) == 1
        for forbidden in ("FLUSHALL", "KEYS *", "CONFIG SET maxmemory 1", "SET other 1", "SCRIPT FLUSH", "SHUTDOWN", "ACL LIST"):
            with pytest.raises(exceptions.NoPermissionError):
                redis.execute_command(*forbidden.split(" "))
