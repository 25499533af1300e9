"""One look for all viewers: what is amiss with one scan costs the others nothing."""

from __future__ import annotations

from tests.worker.api.conftest import Service
from tests.worker.queue import scans
from worker.console.look import Lookout


def test_a_watch_that_is_forgotten_while_it_is_looked_at_has_no_events(service: Service) -> None:
    desk = service.parts.desk
    look = Lookout(desk=desk, roster=service.parts.roster)
    record = desk.record(scans.watched(desk, 2), None)
    assert len(look.scan(record).events) == 2
    desk.records.redis.delete(desk.records.key("scan", record.id))
    assert look.scan(record).events == ()
