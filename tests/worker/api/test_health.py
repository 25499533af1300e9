"""Probes and metrics, with Redis there, unfit and away."""

from __future__ import annotations

import contextlib
import threading
import time

import anyio
import anyio.to_thread
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from tests.worker.api.conftest import Serve, Service, scan_one
from worker import __version__
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.queue.record import Claim
from worker.queue.requests import QUEUES
from worker.telemetry.catalogue import BUILD, OF_THE_API, STARTED, WORKERS


def metrics(service: Service) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = service.client.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_ready_is_a_fit_redis_and_a_worker_whose_model_has_run(service: Service, redis: Redis) -> None:
    def ready() -> tuple[int, dict[str, bool]]:
        answer = service.client.get("/readyz")
        assert answer.json()["ready"] == (answer.status_code == 200)
        assert service.client.head("/readyz").status_code == answer.status_code
        return answer.status_code, {check["name"]: check["ok"] for check in answer.json()["checks"]}

    assert ready() == (503, {"redis": True, "workers": False})
    service.parts.roster.tell("w1", {"ready": False})
    assert ready() == (503, {"redis": True, "workers": False})
    service.parts.roster.tell("w2", {"ready": True, "queues": ["watch"]})
    assert ready() == (503, {"redis": True, "workers": False}), "one that scans is needed"
    service.parts.roster.tell("w1", {"ready": True, "queues": ["live", "watch"]})
    assert ready() == (200, {"redis": True, "workers": True})
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert ready() == (503, {"redis": False, "workers": True})
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
    service.parts.roster.leave("w1")
    assert ready()[0] == 503


def test_a_full_redis_is_not_ready_since_it_refuses_every_request_with_a_key(service: Service, redis: Redis) -> None:
    service.parts.roster.tell("w1", {"ready": True})
    key = service.as_()
    redis.config_set("maxmemory", 1)
    try:
        answer, refused = service.client.get("/readyz"), service.client.get("/v1/scans", headers=key)
    finally:
        redis.config_set("maxmemory", 0)
    assert (answer.status_code, refused.status_code) == (503, 503)
    assert answer.json()["checks"][0] == {"name": "redis", "ok": False, "detail": "Redis is full: raise its maxmemory"}
    assert service.client.get("/readyz").status_code == 200


def test_a_redis_that_refuses_writes_is_down_with_its_reason(service: Service, redis: Redis) -> None:
    service.parts.roster.tell("w1", {"ready": True})
    redis.config_set("min-replicas-to-write", 1)
    try:
        ready, found = service.client.get("/readyz"), metrics(service)
    finally:
        redis.config_set("min-replicas-to-write", 0)
    assert ready.status_code == 503
    told, workers = ready.json()["checks"]
    assert (told["name"], told["ok"], workers["ok"]) == ("redis", False, True)
    assert told["detail"].startswith("Redis takes no writes: NOREPLICAS")
    its_own = ("veriframe_http", "veriframe_build", "veriframe_start")
    assert {name for name, _ in found if not name.startswith(its_own)} == {"veriframe_redis_up"}
    assert of(found, "veriframe_redis_up") == 0
    assert service.client.get("/readyz").status_code == 200
    assert of(metrics(service), "veriframe_redis_up") == 1


def test_a_redis_that_forbids_writes_is_down_too(serve: Serve, own_redis: EmbeddedRedis) -> None:
    with connect(url=own_redis.url, timeout_s=5, patience_s=0) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">hunter2", "~*", "+@all", "-set")
    with connect(url=own_redis.url, username="reader", password="hunter2", timeout_s=5, patience_s=0) as client:
        service = serve(client=client)
        assert service.client.get("/readyz").json()["checks"][0]["ok"] is False
        assert of(metrics(service), "veriframe_redis_up") == 0


def test_metrics_count_scans_workers_and_requests(service: Service) -> None:
    service.parts.roster.tell("w1", {"ready": True})
    service.parts.roster.tell("w2", {"ready": False})
    for n, queue in enumerate(("live", "low", "batch", "batch")):
        scan_id = service.submit(url=f"https://media.example/{n}", priority=queue)
    scan_one(service, scan_id)
    running = service.submit(priority="low")
    assert isinstance(service.parts.desk.records.claim(running, "w1"), Claim)
    for path in ("/v1/scans/" + "0" * 32, "/v1/scans/" + "1" * 32, "/nowhere/1", "/nowhere/2"):
        service.client.get(path, headers=service.as_())
    service.client.request("BREW", "/coffee")
    found = metrics(service)
    assert of(found, "veriframe_redis_up") == 1
    waiting = {queue: of(found, "veriframe_scans_waiting", queue=queue) for queue in QUEUES}
    assert waiting == {"live": 1, "batch": 1, "low": 1, "watch": 0}
    assert {queue: of(found, "veriframe_scans_due", queue=queue) for queue in QUEUES} == waiting
    oldest = {queue: of(found, "veriframe_scans_oldest_waiting_seconds", queue=queue) > 0 for queue in QUEUES}
    assert oldest == {"live": True, "batch": True, "low": True, "watch": False}
    assert {queue: of(found, "veriframe_scans_running", queue=queue) for queue in QUEUES} == dict.fromkeys(QUEUES, 0) | {"low": 1}
    assert of(found, "veriframe_scans_ended_total", status="completed") == 1
    assert of(found, "veriframe_scans_ended_total", status="failed") == 0
    assert (of(found, "veriframe_callbacks_owed"), of(found, "veriframe_callbacks_dead")) == (0, 0)
    assert of(found, "veriframe_scans_dead") == 0
    assert of(found, "veriframe_workers", state="ready", serves="scans") == 1
    assert of(found, "veriframe_workers", state="starting", serves="scans") == 1
    assert of(found, "veriframe_workers", state="ready", serves="streams") == 0
    assert of(found, "veriframe_http_requests_total", method="POST", route="/v1/scans", status="202") == 5
    assert of(found, "veriframe_http_requests_total", method="GET", route="/v1/scans/{scan_id}", status="404") == 2
    assert of(found, "veriframe_http_requests_total", method="GET", route="unmatched", status="404") == 2
    assert of(found, "veriframe_http_requests_total", method="other", route="unmatched", status="404") == 1
    assert of(found, "veriframe_http_request_seconds_count", method="POST", route="/v1/scans") == 5


def test_a_worker_for_streams_is_none_for_scans(service: Service) -> None:
    service.parts.roster.tell("w1", {"ready": True, "queues": ["watch"]})
    service.parts.roster.tell("w2", {"ready": False, "queues": ["watch"]})
    service.parts.roster.tell("w3", {"ready": False, "queues": ["batch", "watch"]})
    found = metrics(service)
    labels = WORKERS.from_the_start()
    seen = {(state, serves): of(found, "veriframe_workers", state=state, serves=serves) for state, serves in labels}
    assert seen == dict.fromkeys(labels, 1) | {("ready", "scans"): 0}
    assert service.client.get("/readyz").status_code == 503, "they agree"


def test_a_worker_that_is_ready_counts_in_every_queue_that_it_serves(service: Service) -> None:
    service.parts.roster.tell("w1", {"ready": True, "queues": ["live", "batch"]})
    service.parts.roster.tell("w2", {"ready": True, "queues": ["batch"]})
    service.parts.roster.tell("w3", {"ready": False, "queues": ["low", "watch"]})
    found = metrics(service)
    seen = {queue: of(found, "veriframe_queue_workers", queue=queue) for queue in QUEUES}
    assert seen == {"live": 1, "batch": 2, "low": 0, "watch": 0}


def test_what_the_api_tells_is_what_the_catalogue_says(service: Service) -> None:
    service.client.get("/livez")
    told = text_string_to_metric_families(service.client.get("/metrics").text)
    families = {family.name: (family.type, family.documentation) for family in told if not family.name.endswith("_created")}
    known = (*OF_THE_API, BUILD, STARTED)
    assert families == {metric.name.removesuffix("_total"): (metric.kind, metric.help) for metric in known}


def test_dead_scans_and_callbacks_are_counted(service: Service, redis: Redis) -> None:
    redis.zadd("vf:dead", {"a": 1, "b": 2})
    redis.zadd("vf:callbacks", {"evt_a": 1})
    redis.zadd("vf:callbacks:dead", {"evt_b": 1, "evt_c": 1, "evt_d": 1})
    found = metrics(service)
    names = ("scans_dead", "callbacks_owed", "callbacks_dead")
    assert [of(found, f"veriframe_{name}") for name in names] == [2, 1, 3]
    assert of(found, "veriframe_callbacks_oldest_due_seconds") > 1e9, "since 1970"


@pytest.fixture
def away(serve: Serve, own_redis: EmbeddedRedis) -> Service:
    """Its Redis was there once and is gone."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(url=own_redis.url, timeout_s=1, patience_s=0))
        service = serve(client=client)
        service.as_()
        own_redis.stop()
        stack.pop_all()
        return service


def test_probes_and_metrics_answer_without_redis(away: Service) -> None:
    assert away.client.get("/livez").json() == {"status": "alive"}
    assert away.client.head("/livez").status_code == 200
    ready = away.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "127.0.0.1" not in ready.text
    found = metrics(away)
    assert of(found, "veriframe_redis_up") == 0
    assert of(found, "veriframe_build_info", version=__version__) == 1
    assert 0 <= time.time() - of(found, "veriframe_start_timestamp_seconds") < 60
    assert not any(name.startswith("veriframe_scans") for name, _ in found), "unknown is not zero"


def test_probes_and_metrics_answer_while_requests_wait_with_every_thread_that_they_share(service: Service) -> None:
    release = threading.Event()

    async def answers() -> list[int]:
        shared = anyio.to_thread.current_default_thread_limiter()
        transport = httpx.ASGITransport(service.app)
        async with anyio.create_task_group() as held, httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            for _ in range(int(shared.total_tokens)):
                held.start_soon(anyio.to_thread.run_sync, release.wait)
            try:
                while shared.available_tokens:
                    await anyio.sleep(0)
                with anyio.fail_after(30):
                    return [(await client.get(path)).status_code for path in ("/readyz", "/metrics")]
            finally:
                release.set()

    assert anyio.run(answers) == [503, 200], "no worker is ready, and it says so"
