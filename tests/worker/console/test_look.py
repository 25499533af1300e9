"""One look for all viewers: what is amiss with one scan costs the others nothing."""

from __future__ import annotations

from tests.worker.api.conftest import Serve, Service
from tests.worker.queue import scans
from worker.console.look import Look, Lookout
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis


def test_a_watch_that_is_forgotten_while_it_is_looked_at_has_no_events(service: Service) -> None:
    desk = service.parts.desk
    look = Lookout(desk=desk, roster=service.parts.roster)
    record = desk.record(scans.watched(desk, 2), None)
    assert len(look.scan(record).events) == 2
    desk.records.redis.delete(desk.records.key("scan", record.id))
    assert look.scan(record).events == ()


def test_a_redis_that_forbids_the_look_tells_nothing(serve: Serve, own_redis: EmbeddedRedis) -> None:
    """The one poller of all live pages goes on: it is asked again when the rights are mended."""
    with connect(url=own_redis.url, timeout_s=5, patience_s=0) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">hunter2", "~*", "+@all", "-zrange")
        with connect(url=own_redis.url, username="reader", password="hunter2", timeout_s=5, patience_s=0) as client:
            parts = serve(client=client).parts
            look = Lookout(desk=parts.desk, roster=parts.roster)
            assert look(()) == Look(scans={})
            admin.execute_command("ACL", "SETUSER", "reader", "+zrange")
            assert look(()).queue is not None
