"""Builds the queue's parts from settings: the one place of the service that knows them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from redis import Redis

from worker.errors import ConfigError
from worker.queue.connection import connect
from worker.queue.doorbell import Doorbells
from worker.queue.courier import Courier
from worker.queue.fetching import Artifacts, Sources
from worker.queue.perform import Performer, QueueScanner
from worker.queue.records import Records, Terms
from worker.queue.roster import Roster
from worker.queue.scan_worker import Limits, ScanWorker
from worker.queue.warm import WarmChild
from worker.settings import Settings

SCANNER = "worker.compose:build_scanner"


def told_settings(settings: Settings) -> dict[str, Any]:
    """Settings as the scanning process is told them through its pipe, with the password."""
    told = settings.model_dump(mode="json")
    if settings.redis.password is not None:
        told["redis"]["password"] = settings.redis.password.get_secret_value()
    return told


def read_settings(told: dict[str, Any]) -> Settings:
    """Raises ConfigError."""
    try:
        return Settings.model_validate(told)
    except ValidationError as exc:
        raise ConfigError("settings cannot be used") from exc


def build_redis(settings: Settings) -> Redis:
    """A connection that rides out losses. Raises ConfigError."""
    redis = settings.redis
    return connect(
        url=redis.url,
        username=redis.username,
        password=redis.password.get_secret_value() if redis.password else None,
        tls_ca=redis.tls_ca,
        timeout_s=redis.timeout_s,
        patience_s=redis.patience_s,
    )


def build_records(settings: Settings, redis: Redis) -> Records:
    queue = settings.queue
    terms = Terms(
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
    return Records(redis, settings.redis.namespace, terms)


@contextlib.contextmanager
def build_performer(settings: Settings, scanner: QueueScanner, folder: Path) -> Iterator[Performer]:
    """What the scanning process does its scans with; ``folder`` is for its downloads."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(contextlib.closing(build_redis(settings)))
        yield Performer(
            records=build_records(settings, redis),
            scanner=scanner,
            sources=stack.enter_context(Sources.of(settings)),
            keeper=Artifacts.of(settings),
            folder=folder,
            hold_s=settings.queue.hold_s,
        )


def build_worker(
    settings: Settings,
    redis: Redis,
    queues: Sequence[str],
    build: str = SCANNER,
    *,
    on_beat: Callable[[dict[str, Any]], None] = lambda facts: None,
) -> ScanWorker:
    """``build`` names what opens a scanner, for drills and tests."""
    queue, namespace = settings.queue, settings.redis.namespace
    return ScanWorker(
        redis=redis,
        records=build_records(settings, redis),
        bells=Doorbells(redis, namespace),
        roster=Roster(redis, namespace),
        child=WarmChild(settings=told_settings(settings), build=build, boot_timeout_s=queue.boot_timeout_s),
        limits=Limits(
            timeout_s=queue.timeout_s,
            grace_s=queue.grace_s,
            scans_per_child=queue.scans_per_child,
            child_growth_mib=queue.child_growth_mib,
        ),
        queues=queues,
        reconcile_s=queue.reconcile_s,
        on_beat=on_beat,
    )


@contextlib.contextmanager
def build_courier(settings: Settings, redis: Redis) -> Iterator[Courier]:
    """Delivers callbacks through the guard of addresses."""
    callbacks = settings.callbacks
    with guarded_client(build_guard(settings), timeout_s=callbacks.timeout_s) as client:
        yield Courier(
            redis,
            settings.redis.namespace,
            client=client,
            attempts=callbacks.attempts,
            backoff_s=callbacks.backoff_s,
            backoff_max_s=callbacks.backoff_max_s,
            timeout_s=callbacks.timeout_s,
            lease_s=callbacks.lease_s,
            parallel=callbacks.parallel,
            keep_s=settings.queue.keep_s,
        )
