"""Builds from settings what those need who hand work in and ask about it: no scanner, no fetching, and a quick import."""

from __future__ import annotations

from redis import Redis

from worker.queue.connection import connect_from
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.record import Terms
from worker.queue.records import Records
from worker.settings import Settings
from worker.telemetry.port import SILENT, Telemetry


def build_redis(settings: Settings) -> Redis:
    """A connection that rides out losses. Raises ConfigError."""
    return connect_from(settings.redis)


def build_terms(settings: Settings) -> Terms:
    queue = settings.queue
    return Terms(
        lease_s=queue.lease_s,
        ring_again_s=queue.ring_again_s,
        max_attempts=queue.max_attempts,
        backoff_s=queue.backoff_s,
        backoff_max_s=queue.backoff_max_s,
        keep_s=queue.keep_s,
        cache_s=queue.cache_s,
        idempotency_s=queue.idempotency_s,
        max_backlog=queue.max_backlog,
        open_scans=settings.api.open_scans,
    )


def build_records(settings: Settings, redis: Redis, telemetry: Telemetry = SILENT) -> Records:
    return Records(redis, settings.redis.namespace, build_terms(settings), telemetry)


def build_desk(settings: Settings, redis: Redis) -> Desk:
    return Desk(build_records(settings, redis), Doorbells(redis, settings.redis.namespace))
