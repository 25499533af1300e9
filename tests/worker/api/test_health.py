"""Probes and metrics, with Redis there, unfit and away."""

from __future__ import annotations

import contextlib

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from tests.worker.api.conftest import Serve, Service, scan_one
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis


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


def test_metrics_count_scans_workers_and_requests(service: Service) -> None:
    service.parts.roster.tell("w1", {"ready": True})
    service.parts.roster.tell("w2", {"ready": False})
    for n in range(3):
        scan_id = service.submit(url=f"https://media.example/{n}")
    scan_one(service, scan_id)
    for path in ("/v1/scans/" + "0" * 32, "/v1/scans/" + "1" * 32, "/nowhere/1", "/nowhere/2"):
        service.client.get(path, headers=service.as_())
    service.client.request("BREW", "/coffee")
    found = metrics(service)
    assert of(found, "veriframe_redis_up") == 1
    assert of(found, "veriframe_scans_waiting") == 2
    assert of(found, "veriframe_scans_running") == 0
    assert of(found, "veriframe_scans_ended_total", status="completed") == 1
    assert of(found, "veriframe_scans_ended_total", status="failed") == 0
    assert of(found, "veriframe_callbacks_owed") == 0
    assert of(found, "veriframe_workers", state="ready") == 1
    assert of(found, "veriframe_workers", state="starting") == 1
    assert of(found, "veriframe_http_requests_total", method="POST", route="/v1/scans", status="202") == 3
    assert of(found, "veriframe_http_requests_total", method="GET", route="/v1/scans/{scan_id}", status="404") == 2
    assert of(found, "veriframe_http_requests_total", method="GET", route="unmatched", status="404") == 2
    assert of(found, "veriframe_http_requests_total", method="other", route="unmatched", status="404") == 1
    assert of(found, "veriframe_http_request_seconds_count", method="POST", route="/v1/scans") == 3


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
    ready = away.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "127.0.0.1" not in ready.text
    found = metrics(away)
    assert of(found, "veriframe_redis_up") == 0
    assert not any(name.startswith("veriframe_scans") for name, _ in found), "unknown is not zero"
