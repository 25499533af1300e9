"""Callbacks that are owed, and a look at them, for all tests of couriers."""

from __future__ import annotations

import json

import httpx
from redis import Redis

from worker.queue.callbacks import Callback, Callbacks
from worker.source.client import guarded_client
from worker.source.guard import AddressGuard

BODY = json.dumps({"type": "scan.completed", "data": {"id": "s1", "verdict": "fake", "name": "Zoë"}}, ensure_ascii=False)
GUARD = AddressGuard(allow_private_hosts=["127.0.0.1"])
TLS = httpx.create_ssl_context(trust_env=False)


def open_client(ends_at: float) -> httpx.Client:
    return guarded_client(GUARD, ends_at=ends_at, ssl_context=TLS)


def post(redis: Redis, url: str, *, event: str = "evt_s1", owner: str = "acme", body: str = BODY) -> str:
    """What the records' scripts write with a final state."""
    fields = {"scan": "s1", "owner": owner, "url": url, "type": "scan.completed", "body": body, "created_ms": 1, "tries": 0}
    redis.hset(f"vf:callback:{event}", mapping={**fields, "state": "waiting", "fence": 0, "last_error": ""})
    redis.zadd("vf:callbacks", {event: 1})
    return event


def shown(redis: Redis, event: str = "evt_s1") -> Callback:
    found = Callbacks(redis).show(event)
    assert found is not None
    return found


def due_in_s(redis: Redis, event: str = "evt_s1") -> float:
    score, (now_s, now_us) = redis.zscore("vf:callbacks", event), redis.time()
    assert score is not None
    return score / 1000 - now_s - now_us / 1e6
