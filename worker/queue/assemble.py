"""Builds the queue's parts from settings, each in the process that needs it: libraries are imported there and nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from redis import Redis

from worker.errors import ConfigError
from worker.queue.connection import connect_from
from worker.queue.doorbell import HEAR_S
from worker.queue.front import build_records
from worker.settings import Settings
from worker.telemetry.port import SILENT, Telemetry

if TYPE_CHECKING:
    from worker.queue.courier import Courier
    from worker.queue.perform import Performer, QueueScanner
    from worker.queue.reconcile import Sweeper
    from worker.queue.records import Records
    from worker.queue.scan_worker import ScanWorker
    from worker.queue.watching import Order

SCANNER = "worker.compose:build_scanner"
STREAMS = "worker.watch.build:open_watcher"
"""What scans, and what watches; drills and tests name others. The latter is imported when the first stream is to be watched."""


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


@contextlib.contextmanager
def build_performer(
    settings: Settings, scanner: QueueScanner, folder: Path, *, streams: str, order: Order, telemetry: Telemetry = SILENT
) -> Iterator[Performer]:
    """What the scanning process does its scans with; ``folder`` is for its downloads, ``streams`` names what watches
    (``worker.queue.streams``), ``order`` ends a slice of that."""
    from worker.artifacts import open_store
    from worker.queue.fetching import Artifacts, Sources
    from worker.queue.media import MediaShelf
    from worker.queue.perform import Performer
    from worker.queue.site_limits import RedisSiteLimiter
    from worker.queue.streams import opener
    from worker.queue.watch_log import WatchLog
    from worker.queue.watching import Slices
    from worker.sources import build_source

    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(contextlib.closing(connect_from(settings.redis, waits_for_room=True)))
        limiter = RedisSiteLimiter(redis, settings.redis.namespace, per_minute=settings.source.site_requests_per_minute)
        records = build_records(settings, redis, telemetry)
        brisk = build_records(settings, stack.enter_context(contextlib.closing(brisk_redis(settings))), telemetry)
        store = open_store(settings.artifacts.url, clock=records.now_s)
        keeper = Artifacts(store=store, keep_s=settings.artifacts.keep_s, clock=records.now_s)
        yield Performer(
            records=records,
            brisk=brisk,
            scanner=scanner,
            sources=Sources(urls=build_source(settings, limiter), roots=settings.queue.media_roots, store=store),
            keeper=keeper,
            watches=Slices(
                records=records,
                brisk=brisk,
                log=WatchLog(redis, settings.redis.namespace),
                open_watcher=opener(settings, scanner, streams, records.now_s),
                keeper=keeper,
                slice_s=settings.queue.watch_slice_s,
                timeout_s=settings.queue.timeout_s,
                decode_s=settings.decode.timeout_s,
                max_duration_s=settings.watch.max_duration_s,
                order=order,
            ),
            folder=folder,
            hold_s=settings.queue.hold_s,
            telemetry=telemetry,
            retain=MediaShelf(store=store, keep_s=settings.artifacts.media_keep_s, clock=records.now_s).keep,
        )


def hearing_redis(settings: Settings) -> Redis:
    """A client that may wait for a doorbell, however short one answer of Redis's may take, and for a Redis that is full. Raises
    ConfigError."""
    return connect_from(settings.redis, block_s=HEAR_S, waits_for_room=True)


def brisk_redis(settings: Settings) -> Redis:
    """A client that gives up within half a lease, for what is done again soon anyway."""
    half_s = settings.queue.lease_s / 2
    hasty = {"timeout_s": min(settings.redis.timeout_s, half_s), "patience_s": min(settings.redis.patience_s, half_s)}
    return connect_from(settings.redis.model_copy(update=hasty))


def build_worker(
    settings: Settings,
    redis: Redis,
    brisk: Redis,
    face: Redis,
    queues: Sequence[str],
    build: str = SCANNER,
    *,
    streams: str = STREAMS,
    on_beat: Callable[[dict[str, Any]], None] = lambda facts: None,
    telemetry: Telemetry = SILENT,
    telemetry_folder: str | None = None,
) -> ScanWorker:
    """``brisk``: a client without patience (``brisk_redis``); ``face``: one that RQ may have for itself; ``build`` names what
    opens a scanner, ``streams`` what watches a stream, for drills and tests; ``telemetry_folder`` is for the scanning process."""
    from worker.queue.doorbell import Doorbells
    from worker.queue.roster import Roster
    from worker.queue.scan_worker import Limits, ScanWorker
    from worker.queue.warm import WarmChild

    queue, namespace = settings.queue, settings.redis.namespace
    records = build_records(settings, redis, telemetry)
    return ScanWorker(
        face=face,
        records=records,
        brisk=build_records(settings, brisk, telemetry),
        bells=Doorbells(redis, namespace),
        roster=Roster(brisk, namespace),
        sweeper=build_sweeper(settings, records, telemetry),
        child=WarmChild(
            settings=told_settings(settings),
            build=build,
            streams=streams,
            boot_timeout_s=queue.boot_timeout_s,
            telemetry=telemetry_folder,
        ),
        limits=Limits(
            timeout_s=queue.timeout_s,
            grace_s=queue.grace_s,
            scans_per_child=queue.scans_per_child,
            child_growth_mib=queue.child_growth_mib,
        ),
        queues=queues,
        reconcile_s=queue.reconcile_s,
        on_beat=on_beat,
        telemetry=telemetry,
    )


def build_sweeper(settings: Settings, records: Records, telemetry: Telemetry = SILENT) -> Sweeper | None:
    """None: nothing is kept. Raises ConfigError for a store that cannot be used."""
    from worker.artifacts import open_store
    from worker.queue.reconcile import Sweeper

    store, url = open_store(settings.artifacts.url), settings.artifacts.url
    if url is None or not store.retains:
        return None
    return Sweeper(records=records, url=url, sweep=store.sweep, telemetry=telemetry)


@contextlib.contextmanager
def build_courier(settings: Settings, redis: Redis, telemetry: Telemetry = SILENT) -> Iterator[Courier]:
    """Delivers callbacks through the guard of addresses."""
    import httpx

    from worker.guards import build_callback_guard
    from worker.queue.courier import Courier
    from worker.source.client import guarded_client

    callbacks, guard = settings.callbacks, build_callback_guard(settings)
    context = httpx.create_ssl_context(trust_env=False)
    yield Courier(
        redis,
        settings.redis.namespace,
        open_client=lambda ends_at: guarded_client(guard, ends_at=ends_at, connections=1, ssl_context=context),
        attempts=callbacks.attempts,
        backoff_s=callbacks.backoff_s,
        backoff_max_s=callbacks.backoff_max_s,
        timeout_s=callbacks.timeout_s,
        lease_s=callbacks.lease_s,
        parallel=callbacks.parallel,
        keep_s=settings.queue.keep_s,
        telemetry=telemetry,
    )
