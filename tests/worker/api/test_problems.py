"""Every error has one form and tells nothing of the inside."""

from __future__ import annotations

import dataclasses
import logging

import pytest
from starlette.testclient import TestClient

from tests.worker.api.conftest import MAX_BODY, MAX_UPLOAD, Serve, Service, fields_of, scan_of
from worker.api.app import build_app
from worker.queue.backlog import read_backlog
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis

SECRET = "hush-hush"


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/", 404, "not_found", None),
        ("GET", "/docs", 404, "not_found", None),
        ("GET", "/v1/scans/", 404, "not_found", None),
        ("GET", "//evil.example/%2e%2e", 404, "not_found", None),
        ("DELETE", "/v1/scans", 405, "method_not_allowed", "GET, POST"),
        ("OPTIONS", "/v1/scans", 405, "method_not_allowed", "GET, POST"),
        ("HEAD", "/v1/uploads", 405, None, "POST"),
        ("PUT", "/livez", 405, "method_not_allowed", "GET, HEAD"),
        ("GET", "/v1/scans/NOT-AN-ID", 422, "bad_request", None),
    ],
)
def test_the_frameworks_errors_have_the_same_form(
    service: Service, method: str, path: str, status: int, code: str | None, allow: str | None
) -> None:
    answer = service.client.request(method, path, headers=service.as_())
    assert answer.status_code == status
    assert answer.headers.get("allow") == allow
    if code is not None:
        assert fields_of(answer)["code"] == code


def test_a_fault_of_ours_is_told_by_its_number_alone(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    def broken(url: str) -> None:
        raise RuntimeError(SECRET)

    app = build_app(dataclasses.replace(service.parts, check_source=broken), max_body_bytes=MAX_BODY, max_upload_bytes=MAX_UPLOAD)
    with TestClient(app, raise_server_exceptions=True) as client:
        answer = client.post("/v1/scans", json=scan_of(), headers=service.as_())
    problem = fields_of(answer)
    assert (answer.status_code, problem["code"]) == (500, "internal")
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text
    assert any(problem["instance"] in record.getMessage() and record.exc_info for record in caplog.records)
    assert sum(read_backlog(service.parts.desk.records).waiting.values()) == 0


def test_without_redis_callers_are_asked_to_come_again(serve: Serve, own_redis: EmbeddedRedis) -> None:
    with connect(url=own_redis.url, timeout_s=1, patience_s=0) as client:
        service = serve(client=client)
        headers = service.as_()
        own_redis.stop()
        for method, path in (("GET", "/v1/scans"), ("POST", "/v1/uploads"), ("GET", "/v1/feedback")):
            answer = service.client.request(method, path, headers=headers)
            assert (answer.status_code, fields_of(answer)["code"]) == (503, "redis_down")
            assert int(answer.headers["retry-after"]) >= 1
            assert "127.0.0.1" not in answer.text


def test_neither_answers_nor_logs_repeat_a_query_or_a_key(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    token = service.token()
    urls = [f"https://media.example/a?sig={SECRET}", f"http://10.0.0.1/a?sig={SECRET}", f"http://u:{SECRET}@a.example/", SECRET]
    for url in urls:
        for body in (scan_of(url), scan_of(callback_url=url), scan_of(**{SECRET: url})):
            answer = service.client.post("/v1/scans", json=body, headers=service.as_())
            if SECRET not in body:
                assert SECRET not in answer.text, answer.text
    for path in (f"/v1/scans?cursor={SECRET}", f"/nope?sig={SECRET}", f"/livez?sig={SECRET}"):
        assert SECRET not in service.client.get(path, headers=service.as_()).text
    wrong = {"Authorization": f"Bearer {token[:-8]}{SECRET[:8]}"}
    assert SECRET[:8] not in service.client.get("/v1/scans", headers=wrong).text
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("worker"))
    assert "/v1/scans" in ours
    for secret in (SECRET, token, token[-43:]):
        assert secret not in ours
